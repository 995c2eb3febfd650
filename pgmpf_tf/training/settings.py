"""Everything that `wrap` was asked for, validated and serializable."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras

from pgmpf_tf._checks import (
    check_choice,
    check_integer,
    check_seed,
    check_type,
    received,
)
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.rates import check_rate
from pgmpf_tf.channels.analysis import COUPLINGS
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.methods.schedules import EveryEpochs
from pgmpf_tf.scores.criterion import Criterion
from pgmpf_tf.scores.ranking import Rounding, RoundTo, check_round_to
from pgmpf_tf.training.optimizers import SUPPRESS

# A step that is beyond the end of any schedule of tfmot: there it gives its last value.
_LAST_STEP = 10**9


@dataclasses.dataclass(frozen=True)
class PruningSettings:
    """The arguments of `wrap`, apart from the model. See there.

    Attributes:
        config: the method.
        criterion: without its data.
        distillation_weight: weight of the distance to a teacher; 0 if there is none.
        temperature: by which logits are divided for the teacher.
        found_rates: the rates by which a `Budget` is met, one per group of the
            analysis; they are found once, from the weights before training.
    """

    rate: Any
    config: PruningConfig
    criterion: Criterion
    coupling: str
    exclude: tuple[str, ...]
    epochs: int | None
    suppress: str
    round_to: RoundTo
    seed: int
    distillation_weight: float = 0.0
    temperature: float = 4.0
    found_rates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        set_ = functools.partial(object.__setattr__, self)
        set_("rate", _checked_rate(self.rate))
        check_type(
            "method",
            self.config,
            PruningConfig,
            "the name of a method or a PruningConfig",
        )
        check_choice("coupling", self.coupling, COUPLINGS)
        if self.epochs is not None:
            set_("epochs", self.check_epochs(self.epochs))
        check_choice("suppress", self.suppress, SUPPRESS)
        set_("round_to", check_round_to(self.round_to))
        set_("seed", check_seed("seed", self.seed))

    def check_epochs(self, epochs: Any) -> int:
        """A number of epochs in which the schedules can run.

        Raises:
            TypeError: if it is not an int.
            ValueError: if the schedules cannot run in that many epochs.
        """
        epochs = check_integer("epochs", epochs, 1)
        updates = self.config.updates
        if isinstance(updates, EveryEpochs) and updates.epochs > epochs:
            raise ValueError(
                f"`epochs` must be at least the {updates.epochs} epochs between "
                f"updates of the masks. {received('epochs', epochs)}"
            )
        return epochs

    @property
    def target_rate(self) -> float | Mapping[str, float]:
        """The rate or rates at the end of training."""
        if is_rate_schedule(self.rate):
            return check_rate("rate", scheduled_rate(self.rate, _LAST_STEP))
        return self.rate

    def get_config(self) -> dict[str, Any]:
        """The settings as a dictionary that JSON can hold."""
        config = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        config["config"] = self.config.get_config()
        config["exclude"] = list(self.exclude)
        if isinstance(self.round_to, Rounding):
            config["round_to"] = dataclasses.asdict(self.round_to)
        config["criterion"] = keras.saving.serialize_keras_object(self.criterion)
        if is_rate_schedule(self.rate):
            config["rate"] = {"tfmot_schedule": self.rate.get_config()}
        if isinstance(self.rate, Budget):
            config["rate"] = {"budget": self.rate.get_config()}
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PruningSettings:
        """The inverse of `get_config`."""
        config = dict(config)
        config["config"] = PruningConfig.from_config(config["config"])
        config["exclude"] = tuple(config["exclude"])
        config["criterion"] = keras.saving.deserialize_keras_object(config["criterion"])
        if isinstance(config["round_to"], Mapping):
            config["round_to"] = Rounding(**config["round_to"])
        rate = config["rate"]
        if isinstance(rate, Mapping) and "tfmot_schedule" in rate:
            config["rate"] = _load_schedule(rate["tfmot_schedule"])
        if isinstance(rate, Mapping) and isinstance(rate.get("budget"), Mapping):
            config["rate"] = Budget.from_config(rate["budget"])
            config["found_rates"] = tuple(config["found_rates"])
        return cls(**config)


def is_rate_schedule(rate: Any) -> bool:
    """Whether `rate` is a schedule in the manner of tfmot's `PruningSchedule`."""
    return callable(rate) and hasattr(rate, "get_config")


def scheduled_rate(schedule: Callable[[int], tuple[Any, Any]], step: int) -> float:
    """The rate that a tfmot `PruningSchedule` gives at a training step."""
    if step < getattr(schedule, "begin_step", 0):
        return 0.0
    _, sparsity = schedule(step)
    return float(sparsity)


def _load_schedule(config: Mapping[str, Any]) -> Any:
    try:
        from tensorflow_model_optimization.sparsity import keras as sparsity
    except ImportError as error:
        raise ImportError(
            "This model was wrapped with a schedule of tensorflow-model-optimization; "
            'loading it needs that package: pip install "pgmpf-tf[tfmot]"'
        ) from error
    schedule = getattr(sparsity, config["class_name"], None)
    if schedule is None:
        raise ValueError(
            f"tensorflow-model-optimization has no schedule {config['class_name']!r}; "
            "load the model's weights into a model wrapped with your schedule instead."
        )
    return schedule.from_config(config["config"])


def _checked_rate(rate: Any) -> Any:
    if isinstance(rate, Budget) or is_rate_schedule(rate):
        return rate
    if not isinstance(rate, (numbers.Real, Mapping)) or isinstance(rate, bool):
        raise TypeError(
            "`rate` must be the fraction of filters to remove, a mapping from "
            "layer-name pattern to that, a Budget, or a PruningSchedule of "
            f"tensorflow-model-optimization. {received('rate', rate)}"
        )
    return check_rate("rate", rate)
