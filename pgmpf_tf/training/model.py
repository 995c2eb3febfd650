"""`PrunedModel`: the Keras model that is pruned while it is trained."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional

from pgmpf_tf._checks import check_callable
from pgmpf_tf.backends.current import check_strategy, strategy_scope
from pgmpf_tf.scores.criterion import Criterion
from pgmpf_tf.training.assembly import Parts, assemble
from pgmpf_tf.training.fitting import (
    checked_epochs,
    replace_callbacks,
    warned_inside,
    with_signature_of_fit,
)
from pgmpf_tf.training.holding import held_back
from pgmpf_tf.training.loop import MaskUpdates
from pgmpf_tf.training.own_loops import OwnLoops
from pgmpf_tf.training.progress import Progress
from pgmpf_tf.training.settings import PruningSettings
from pgmpf_tf.training.statistics import watch_statistics
from pgmpf_tf.training.summary import print_summary
from pgmpf_tf.training.two_phases import FitAndShrink

# What `compile` and `fit` leave in a model: the wrapped one is trained anew.
_OF_TRAINING = (
    "history",
    "optimizer",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
    "_compile_config",
    "_compiled_trainable_state",
)


def _attributes(model: keras.Model) -> dict[str, Any]:
    """All attributes that were set on a model."""
    # On PyTorch layers and models are kept apart from the others.
    return {**vars(model), **vars(model).get("_modules", {})}


@keras.saving.register_keras_serializable("pgmpf_tf")
class PrunedModel(FitAndShrink, OwnLoops):
    """A Functional model that shares the layers of another and prunes them in `fit`.

    Made by `pgmpf_tf.wrap`. It is a Keras model in every respect: `compile`, `fit`,
    `evaluate`, `predict`, `summary`, `save`, callbacks and History work as ever.
    History gets `pruning_rate`, `suppression` and `weight_mask` of each epoch.

    If the wrapped model is of a class with a `train_step` of its own, that one runs,
    and what it hands to `self.optimizer` is masked.

    Args:
        model: the model whose layers are shared.
        parts: what it has beside them.
    """

    def __init__(self, model: keras.Model, parts: Parts) -> None:
        inputs, outputs = model.inputs, model.outputs
        if isinstance(model, Functional):
            inputs, outputs = model.input, model.output
        elif len(inputs) == len(outputs) == 1:
            inputs, outputs = inputs[0], outputs[0]
        Functional.__init__(self, inputs, outputs, name=model.name)
        known = {*_attributes(self), *_OF_TRAINING}
        for name, value in _attributes(model).items():
            if isinstance(model, Functional) and name not in known:
                setattr(self, name, value)
        self._pruner = parts.pruner
        self._settings = parts.settings
        self._progress = Progress(parts.pruner, parts.settings)
        self.__dict__["_is_inside"] = False
        # A function, because Keras would save the weights of a model twice.
        self._unwrapped: Callable[[], keras.Model] = lambda: model
        # Not by setattr: saved with the model, yet none of its layers.
        state = self.__dict__["pruning_state"] = parts.pruner.state
        if parts.pruner.groups:
            watch_statistics(self, parts.pruner.normalizations, state)
        self._distillation = parts.distillation
        parts.distillation.model = self
        owners = {"criterion_data": parts.scoring, "teacher": parts.distillation}
        # A model of the user's own kind may have such an attribute itself.
        own = _attributes(self)
        self.__dict__["_owners"] = {k: v for k, v in owners.items() if k not in own}

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras tracks and saves whatever is set on a model. These only pass through it,
        # and so `dir`, by which Keras finds what to save, must not list them either.
        owner = vars(self).get("_owners", {}).get(name)
        if owner is not None:
            setattr(owner, name, value)
            return
        super().__setattr__(name, value)
        if name == "optimizer" and value is not None and "_pruner" in vars(self):
            # Compiled anew: what the optimizer has been used for before is erased.
            self._pruner.forget(value)

    def __getattr__(self, name: str) -> Any:
        owner = vars(self).get("_owners", {}).get(name)
        if owner is not None:
            return getattr(owner, name)
        inherited = getattr(super(), "__getattr__", None)
        if inherited is not None:  # on PyTorch, where a model is a torch.nn.Module
            return inherited(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model, as any Keras model."""
        if kwargs.get("training") is True and not self._is_inside:
            self.__dict__["_is_inside"] = warned_inside(self, self._outermost())
        return super().__call__(*args, **kwargs)

    @with_signature_of_fit
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains and prunes; the arguments are those of `keras.Model.fit`.

        Masks are updated every few steps in the first part of the run, or as the
        method says, ahead of all callbacks. From the last update on the pruned filters
        are exactly zero, and further calls keep them so. A run that is ended before
        keeps the network as it is, and the next call goes on.

        `EarlyStopping`, `ReduceLROnPlateau` and a `ModelCheckpoint` that saves the best
        only do not hear of epochs before the last update, and a warning says so.

        Returns:
            History, with `pruning_rate`, `suppression` and `weight_mask` per epoch in
            `history`, and the attribute `masks`: a list of the masks before the first
            epoch and after each one, the last as they are when `fit` returns. An entry
            is a dictionary from the name of a group to a bool array `(units,)`, True
            for a unit that stays.

        Raises:
            ValueError: if `epochs` is below 1 or fewer than the method has between two
                updates, or if weights have become NaN or infinite: no masks are
                computed from those, and no later callback sees (or saves) that epoch.
                If the optimizer was made under another distribution strategy. If the
                criterion needs data (`model.criterion_data`) or a loss that are not
                there.
            TypeError: if the model's class has a `fit` that takes no callbacks.
        """
        parent = super().fit
        epochs = checked_epochs(parent, args, kwargs)
        if self.compiled:
            check_strategy(self)
        self._distillation.check()
        updates = MaskUpdates(self._progress)

        def change(callbacks: Any) -> Any:
            if not isinstance(callbacks, keras.callbacks.CallbackList):
                given = keras.tree.flatten(callbacks or [])
                return [updates, *held_back(given, self._progress)]
            given = held_back(callbacks.callbacks, self._progress)
            callbacks.callbacks[:] = [updates, *given]
            callbacks.set_model(self)
            callbacks.set_params({"epochs": epochs or 1, **(callbacks.params or {})})
            return callbacks

        positional, named = replace_callbacks(parent, args, kwargs, change)
        history = parent(*positional, **named)
        self._after_fit()
        updates.warn_of_the_end()
        zero = self._progress.finished or not self._settings.config.kernels_only
        if zero and self._pruner.holding and not self._pruner.holds():
            self._pruner.hold()
            updates.replace_last_masks()
            warnings.warn(
                "A callback has restored weights of an epoch before the last update of "
                "the masks. What is masked has been set to zero again: this is not the "
                "network of that epoch.",
                stacklevel=2,
            )
        if history is not None:
            history.masks = updates.masks
        return history

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss; in training with the distance to the teacher, if there is one.

        Args:
            x: inputs, needed with a teacher.
            y: targets.
            y_pred: outputs.
            sample_weight: weights of the samples.
            training: whether it is a training step.

        Returns:
            A scalar.

        Raises:
            ValueError: if the model was wrapped with a teacher, and it or `x` is
                missing.
        """
        task = super().compute_loss
        options = {}
        # A model of the user's own kind may be older than this argument.
        if "training" in inspect.signature(task).parameters:
            options["training"] = training
        own = task.__func__ is not keras.Model.compute_loss
        weight = self._distillation.weight if training else 0.0
        # Without labels there is no task but the teacher's.
        taught_only = weight and not own and self._compile_loss is None
        loss = 0.0
        if not taught_only:
            loss = task(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **options)
        if not weight:
            return loss
        if x is None:
            raise ValueError(
                "`compute_loss` needs `x`, the inputs, to ask the teacher. Received: "
                "x=None"
            )
        distance = self._distillation.distance(x, y_pred, sample_weight)
        if not own:
            distance += sum(map(self._aggregate_additional_loss, self.losses))
        return distance if taught_only else (1.0 - weight) * loss + weight * distance

    def apply_masks(self) -> None:
        """Prunes hard, now, without training.

        Scores all filters by the weights as they are, sets the pruned ones to zero
        everywhere (kernel, bias, BatchNorm gamma and beta), and keeps them zero in all
        training that follows.

        Raises:
            ValueError: if weights are NaN or infinite, or if the criterion needs data
                (`model.criterion_data`) or a loss that are not there.
        """
        self._progress.finish(getattr(self, "optimizer", None))

    def masks(self) -> dict[str, np.ndarray]:
        """The present masks: 1 for a unit that stays, 0 for one that is pruned.

        Returns:
            From the name of each group to an array of shape `(units,)`, float32.
        """
        self._sync_state()
        return self._pruner.masks()

    def filter_norms(self) -> dict[str, np.ndarray]:
        """The L2 norm of each unit: of all kernel slices that go with it.

        Returns:
            From the name of each group to an array of shape `(units,)`, float64.
        """
        self._sync_state()
        return self._pruner.norms()

    def pruning_values(self) -> dict[str, float]:
        """The present `pruning_rate`, `suppression` and `weight_mask`."""
        self._sync_state()
        return self._progress.values()

    @property
    def pruning_settings(self) -> PruningSettings:
        """The arguments of `wrap` that the model was made with."""
        return self._settings

    def pruning_summary(self, print_fn: Callable[[str], None] | None = None) -> None:
        """Prints groups, members, kept units, rates, and what is pinned and why.

        Args:
            print_fn: takes the text instead of standard output.
        """
        if print_fn is not None:
            check_callable("print_fn", print_fn, "a function of a text, or None")
        print_summary(self.name, self._pruner, print_fn)

    def get_config(self) -> dict[str, Any]:
        """The plain model's configuration and the arguments of `wrap`."""
        model = keras.saving.serialize_keras_object(self._unwrapped())
        model.pop("compile_config", None)
        return {"model": model, "pruning": self._settings.get_config()}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> PrunedModel:
        """The inverse of `get_config`."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return pruned_model(model, PruningSettings.from_config(config["pruning"]))


def pruned_model(
    model: keras.Model,
    settings: PruningSettings,
    *,
    given: keras.Model | None = None,
    criterion: Criterion | None = None,
) -> PrunedModel:
    """`wrap` with all arguments in one object, apart from what no file can hold.

    Args:
        model: a Functional or Sequential model.
        settings: the arguments.
        given: the model that the user had, if `model` was made of it.
        criterion: the criterion with its data, if they are at hand.
    """
    with strategy_scope(model):
        parts = assemble(model, settings, given, criterion)
        kind: Any = type(model)
        wrapped = _pruned_class(kind)(model, parts)
    parts.scoring.models = (wrapped, *parts.scoring.models)
    return wrapped


@functools.cache
def _pruned_class(base: type[keras.Model]) -> type[PrunedModel]:
    """The class of the wrapped model: it keeps the methods of the user's own class."""
    if base is Functional or not issubclass(base, Functional):
        return PrunedModel
    # The name is the registered one: a file is always loaded by PrunedModel, which
    # wraps the user's model anew.
    derived = type("PrunedModel", (PrunedModel, base), {"__module__": __name__})
    return keras.saving.register_keras_serializable("pgmpf_tf")(derived)
