"""What a run is made of: one frozen record, and recipes that fill it in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

from experiments.run.values import parse
from pgmpf_tf import Budget, PruningConfig, Sensitivity
from pgmpf_tf.budgets.budget import RESOURCES, STRATEGIES
from pgmpf_tf.methods.config import PRESETS

METHODS = ("baseline", *PRESETS)

# The selection for which the dense network is measured.
SENSITIVITY = "sensitivity"


def _setting(default: Any, help: str, *, choices: tuple[str, ...] | None = None) -> Any:
    """A field that the launcher offers as a flag, with what it says about it."""
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Everything that decides the outcome of a run; the fields say what they are.

    Raises:
        ValueError: if a value is out of range, or `pruning` names an unknown field.
    """

    dataset: str = _setting(
        "digits",
        "Data set: digits, fashion_mnist, cifar10, cifar100, imagenet2012 or folder.",
    )
    model: str = _setting(
        "resnet8",
        "Network: resnet8, 14, 20, 32, 44, 56, 110 (CIFAR), vgg16_bn, resnet18, "
        "resnet34, a name in keras.applications, or a .keras file, whose architecture "
        "gets new weights (the small network from scratch, say).",
    )
    method: str = _setting(
        "pgmpf",
        "How to prune while training; baseline trains the dense network only.",
        choices=METHODS,
    )
    rate: float = _setting(0.5, "Fraction of the filters to remove, in [0, 1).")
    budget: tuple[str, ...] = _setting(
        (),
        "Instead of a rate: fractions to take away, as macs=0.5,params=0.3; also "
        "latency, which is measured.",
    )
    selection: str = _setting(
        "uniform",
        "How a budget is met: the same rate everywhere, all filters compete, or more "
        "go where that moves the dense network's outputs least, which is measured.",
        choices=STRATEGIES,
    )
    criterion: str = _setting(
        "l2",
        "Score of a filter: l1, l2, geometric_median, batchnorm_scale or random.",
    )
    coupling: str = _setting(
        "grouped",
        "grouped prunes the filters of added layers together; independent, as the "
        "paper, one layer at a time, and keeps the width between residual blocks.",
        choices=("grouped", "independent"),
    )
    distillation: float = _setting(
        0.0,
        "Weight of the distance to the dense network's outputs in the loss while "
        "pruning, in [0, 1]; 0 for no teacher.",
    )
    exclude: tuple[str, ...] = _setting(
        (), "Name patterns (as in a shell) of layers to leave alone."
    )
    round_to: int = _setting(1, "Keep filters in multiples of this.")
    pruning: tuple[str, ...] = _setting(
        (),
        "Fields of pgmpf_tf.PruningConfig that differ from the method's, as "
        "name=value; schedules are functions of pgmpf_tf.schedules: "
        "rate=cubic(end=0.4),dropout=0.25",
    )
    dense_epochs: int = _setting(
        30, "Epochs of plain training before pruning; 0 prunes from scratch."
    )
    epochs: int = _setting(30, "Epochs of training while pruning.")
    shrink: bool = _setting(
        False,
        "Go on with the small network alone as soon as pruning is done: the rest of "
        "the epochs then costs what that one costs.",
    )
    baseline: str | None = _setting(
        None, "A trained dense .keras file to prune, instead of dense_epochs."
    )
    batch_size: int = _setting(128, "Images per step, over all replicas.")
    learning_rate: float = _setting(
        0.1, "Learning rate at the start of training from random weights."
    )
    prune_learning_rate: float = _setting(
        0.05, "Learning rate at the start of pruning a trained network."
    )
    lr_schedule: str = _setting(
        "cosine",
        "Cosine to zero, or steps down at lr_drops.",
        choices=("cosine", "step"),
    )
    lr_drops: tuple[float, ...] = _setting(
        (), "Fractions of the epochs after which the step schedule drops."
    )
    lr_factor: float = _setting(0.1, "What a drop multiplies the learning rate with.")
    momentum: float = _setting(0.9, "Nesterov momentum of SGD.")
    weight_decay: float = _setting(
        5e-4, "d in the penalty d/2 * sum(w ** 2) on every weight."
    )
    seed: int = _setting(
        0, "Fixes initial weights, order of the images, augmentation and dropout."
    )
    strategy: str = _setting(
        "none",
        "Where to train: the default device, all devices of this machine, or several "
        "machines, as the environment variable TF_CONFIG says.",
        choices=("none", "mirrored", "multi_worker"),
    )
    precision: str = _setting(
        "float32",
        "What layers compute in while they are trained; files are float32.",
        choices=("float32", "mixed_bfloat16"),
    )
    on_device: bool = _setting(
        False,
        "Keep the images in the accelerator's memory and augment them there; with "
        "KERAS_BACKEND=jax, and for images of one size.",
    )
    formats: tuple[str, ...] = _setting(
        ("saved_model", "tflite"), "What to export: any of saved_model, tflite, keras."
    )
    quantize: str = _setting(
        "none",
        "Precision of a second TFLite file of the small network.",
        choices=("none", "float16", "dynamic", "int8"),
    )
    qat_epochs: int | None = _setting(
        None, "Epochs of quantization-aware training (tfmot) before quantize=int8."
    )
    data_dir: str | None = _setting(
        None,
        "Folder with the original files: the four .gz files of fashion_mnist, the "
        "archive of cifar10 or cifar100, the .tar files of imagenet2012, or "
        "train/CLASS/*.jpg and test/CLASS/*.jpg for the data set folder.",
    )
    tfds_dir: str | None = _setting(
        None, "Where tensorflow-datasets keeps prepared data; its own default."
    )
    train_examples: int | None = _setting(
        None, "Train on the first so many images only."
    )
    held_out: int | None = _setting(
        None,
        "So many training images, evenly spread, are not trained on but watched after "
        "every epoch; a tenth by default. Test images are read once, at the end. "
        "With 0, as in the published recipes, they are watched instead.",
    )
    num_classes: int | None = _setting(
        None, "Outputs of the network, at least the data set's classes, the default."
    )
    input_size: int | None = _setting(
        None, "Edge of the network's input in pixels; the data set's own by default."
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices = field.metadata["choices"]
            if choices and getattr(self, field.name) not in choices:
                self._refuse(field.name, f"one of {', '.join(choices)}")
        if not 0 <= self.rate < 1:
            self._refuse("rate", "in [0, 1): the fraction of filters to remove")
        for name in (
            "batch_size",
            "round_to",
            "train_examples",
            "num_classes",
            "input_size",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                self._refuse(name, "at least 1")
        if self.held_out is not None and self.held_out < 0:
            self._refuse("held_out", "at least 0")
        for name in ("learning_rate", "prune_learning_rate", "lr_factor"):
            if getattr(self, name) <= 0:
                self._refuse(name, "positive")
        if self.dense_epochs < (self.method == "baseline" and not self.baseline):
            self._refuse("dense_epochs", "at least 0, and 1 for the baseline")
        if not 0 <= self.distillation <= 1:
            self._refuse("distillation", "in [0, 1]")
        if self.selection != "uniform" and not self.budget:
            self._refuse("selection", "uniform without a budget")
        if not self.warm_start:
            if self.distillation:
                self._refuse("distillation", "0 where there is no dense network")
            if self.selection == SENSITIVITY:
                self._refuse("selection", "another where there is no dense network")
        if self.shrink:
            self._check_shrink()
        if self.epochs < 1:
            self._refuse("epochs", "at least 1")
        if self.qat_epochs is not None and self.qat_epochs < 1:
            self._refuse("qat_epochs", "at least 1")
        if self.qat_epochs is not None and self.quantize != "int8":
            self._refuse("quantize", "int8 with qat_epochs")
        if not {*self.formats} <= {"saved_model", "tflite", "keras"}:
            self._refuse("formats", "any of saved_model, tflite, keras")
        if not all(0 < drop < 1 for drop in self.lr_drops):
            self._refuse("lr_drops", "fractions in (0, 1)")
        if self.method != "baseline":
            self.pruning_config()
            self.target()

    def _check_shrink(self) -> None:
        if self.method == "baseline" or self.pruning_config().end >= 1:
            self._refuse("shrink", "False with a method that prunes to the end")
        if self.distillation:
            self._refuse("shrink", "False with distillation")
        if self.strategy == "multi_worker":
            self._refuse("shrink", "False on several workers")

    def _refuse(self, name: str, allowed: str) -> NoReturn:
        raise ValueError(
            f"`{name}` must be {allowed}. Received: {name}={getattr(self, name)!r}"
        )

    def target(self, sensitivity: Sensitivity | None = None) -> float | Budget:
        """What to remove, as the library takes it.

        Args:
            sensitivity: for the selection of this name; without it rates are uniform.

        Raises:
            ValueError: if `budget` is no budget.
        """
        if not self.budget:
            return self.rate
        fractions = {}
        for part in self.budget:
            name, _, value = part.partition("=")
            if name not in RESOURCES or not value:
                self._refuse("budget", f"name=fraction of {', '.join(RESOURCES)}")
            fractions[name] = parse(value)
        try:
            known = self.selection != SENSITIVITY or sensitivity is not None
            strategy = self.selection if known else "uniform"
            return Budget(**fractions, strategy=strategy, sensitivity=sensitivity)
        except TypeError as error:  # what comes from a command line is a value
            raise ValueError(str(error)) from error

    @property
    def warm_start(self) -> bool:
        """Whether pruning starts from a trained network."""
        return self.baseline is not None or self.dense_epochs > 0

    def pruning_config(self) -> PruningConfig:
        """The method as the library takes it.

        Raises:
            ValueError: if `pruning` names an unknown field, or a value is out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(PruningConfig)}
        changes: dict[str, Any] = {}
        for change in self.pruning:
            name, _, value = change.partition("=")
            if name not in fields or not value:
                self._refuse("pruning", f"name=value of {', '.join(fields)}")
            changes[name] = parse(value)
        return PruningConfig.preset(self.method, pretrained=self.warm_start, **changes)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RunSettings:
        """The inverse of `to_json`.

        Raises:
            ValueError: if a field is unknown or out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(
                f"Unknown settings {', '.join(unknown)}. Known: "
                f"{', '.join(sorted(known))}"
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "cifar": {
        "method": "pgmpf_published",
        "held_out": 0,
        "dataset": "cifar10",
        "model": "resnet56",
        "dense_epochs": 200,
        "epochs": 200,
        "batch_size": 128,
        "learning_rate": 0.1,
        "prune_learning_rate": 0.01,
        "lr_schedule": "step",
        "lr_drops": (0.3, 0.6, 0.8),
        "lr_factor": 0.2,
        "weight_decay": 5e-4,
    },
    "imagenet": {
        "method": "pgmpf_published",
        "held_out": 0,
        "dataset": "imagenet2012",
        "model": "resnet34",
        "dense_epochs": 0,
        "epochs": 100,
        "batch_size": 256,
        "learning_rate": 0.1,
        "prune_learning_rate": 0.02 * 256 / 768,
        "lr_schedule": "step",
        "lr_drops": (0.3, 0.6, 0.9),
        "lr_factor": 0.1,
        "weight_decay": 1e-4,
        "coupling": "independent",
    },
    "imagenet_pretrained": {
        "method": "pgmpf_published",
        "held_out": 0,
        "dataset": "imagenet2012",
        "model": "resnet50",
        "dense_epochs": 0,
        "epochs": 100,
        "batch_size": 192,
        "learning_rate": 0.1 * 192 / 256,
        "prune_learning_rate": 0.01,
        "lr_schedule": "step",
        "lr_drops": (0.3, 0.6, 0.9),
        "lr_factor": 0.1,
        "weight_decay": 1e-4,
        "coupling": "independent",
    },
}
"""Published settings (Cai et al. 2022), as changes of the defaults."""


# The convolutions on shortcuts, which the paper leaves alone.
_SHORTCUTS = {
    "resnet18": ("*_shortcut_conv",),
    "resnet34": ("*_shortcut_conv",),
    "resnet50": ("*_0_conv",),
}


def resolve(recipe: str = "quick", **changes: Any) -> RunSettings:
    """A recipe with changes.

    Learning rates that are not among the changes scale with the batch size.

    Args:
        recipe: a key of `RECIPES`.
        **changes: fields of `RunSettings`.

    Returns:
        The settings.

    Raises:
        ValueError: if the recipe or a field is unknown, a value is out of range, both
            a rate and a budget are given, or a pretrained recipe gets no baseline.
    """
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be one of {', '.join(RECIPES)}. Received: recipe={recipe!r}"
        )
    if changes.get("budget") and "rate" in changes:
        raise ValueError(
            "`rate` and `budget` exclude each other. Received: "
            f"rate={changes['rate']!r}, budget={changes['budget']!r}"
        )
    fields = dict(RECIPES[recipe])
    base = RunSettings(**fields)
    if recipe == "imagenet_pretrained" and not changes.get("baseline"):
        raise ValueError("The recipe 'imagenet_pretrained' needs `baseline`.")
    scale = changes.get("batch_size", base.batch_size) / base.batch_size
    for name in ("learning_rate", "prune_learning_rate"):
        fields[name] = getattr(base, name) * scale
    model = changes.get("model", base.model)
    if recipe.startswith("imagenet"):
        fields["exclude"] = _SHORTCUTS.get(model, ())
    return RunSettings.from_json(fields | changes)
