"""`wrap`: from a Keras model to one that is pruned while it is trained."""

from __future__ import annotations

import numbers
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

from pgmpf_tf._checks import check_choice, check_seed, check_strings, check_type
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.channels.graph import functional_of
from pgmpf_tf.methods.config import PRESETS, PruningConfig
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.ranking import Rounding
from pgmpf_tf.training.deprecated import translated
from pgmpf_tf.training.distillation import Distillation
from pgmpf_tf.training.model import PrunedModel, pruned_model
from pgmpf_tf.training.settings import PruningSettings


def wrap(
    model: keras.Model,
    rate: float | Mapping[str, float] | Budget | Callable[[int], tuple[Any, Any]] = 0.5,
    *,
    method: str | PruningConfig = "pgmpf",
    criterion: str | criteria.Criterion | criteria.Scorer = "l2",
    coupling: str = "grouped",
    exclude: str | Sequence[str] = (),
    epochs: int | None = None,
    suppress: str = "auto",
    round_to: int | Rounding = 1,
    distillation: Distillation | None = None,
    seed: int | None = None,
    **deprecated: Any,
) -> PrunedModel:
    """Makes a model that prunes its filters while it is trained.

    The result shares the layers and weights of `model`. Compile it and call `fit` as
    ever; afterwards the pruned filters are exactly zero, and `pgmpf_tf.compact` takes
    them away. The method is PGMPF (L. Cai et al., "Prior Gradient Mask Guided
    Pruning-Aware Fine-Tuning", AAAI 2022) or another member of its family.

    Example:
        >>> model = pgmpf_tf.wrap(keras_model, rate=0.5)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(images, labels, epochs=30)
        >>> small = pgmpf_tf.compact(model)

    Args:
        model: a built Functional or Sequential model, or one of a class derived from
            these: its own `train_step` runs then, and its gradients are masked.
        rate: the fraction of filters to remove, in [0, 1): a number, or a mapping from
            layer-name pattern to number (the first that matches a layer of a group
            counts; other groups stay whole), or a `Budget`, or a `PruningSchedule` of
            tensorflow-model-optimization, called with the training step.
        method: how masks develop over the run: `"pgmpf"`, which prunes by small steps
            in the first part of the run and leaves the rest to recover, another name
            that `PruningConfig.preset` knows, or a `PruningConfig`.
        criterion: how filters are scored: `"l1"`, `"l2"`, `"geometric_median"`,
            `"batchnorm_scale"`, `"random"`, or an object of `criteria`, such as
            `criteria.Taylor(data, loss)` or `criteria.L1(normalize=True)`, or a
            function from a matrix `(filters, values)` to scores `(filters,)`.
        coupling: `"grouped"` prunes channels that are added together as one;
            `"independent"` prunes each layer for itself.
        exclude: name patterns of layers whose filters stay.
        epochs: number of epochs of the schedules. None takes it from `fit`. Needed if
            training is spread over several calls of `fit`, or done by a loop of one's
            own.
        suppress: `"gradient"` scales the gradients of pruned filters, as published,
            `"update"` the step that the optimizer makes of them. `"auto"` is
            `"gradient"` for SGD and `"update"` for optimizers that divide by the
            gradient's magnitude, such as Adam.
        round_to: the number of filters kept in a group is a multiple of this, and
            more rather than fewer filters; a `Rounding` rounds otherwise.
        distillation: a `Distillation`: the dense network as a teacher.
        seed: seed of the random draws, in [0, 2^31). None draws one, and keeps it with
            the model.
        **deprecated: keywords of older versions, which warn and say what to write.

    Returns:
        The model that prunes.

    Raises:
        ValueError: if an argument is out of range, a name is unknown or a pattern
            matches nothing, if the model is not built, is wrapped already or has
            nothing to prune, or if it was made under another distribution strategy, or
            if the criterion's data or the teacher do not fit the model.
        TypeError: if an argument is of a wrong type, or a keyword unknown.
    """
    _check_model(model)
    if deprecated or isinstance(distillation, numbers.Real):
        # Once through, the old keywords are as if they had been passed the new way.
        changed = translated(
            deprecated, method=method, criterion=criterion, distillation=distillation
        )
        method, criterion, distillation = changed.values()
    given = model
    if not isinstance(model, (Functional, keras.Sequential)):
        model = functional_of(model)
    seed = _seed(seed)
    scorer = criteria.resolve(criterion).seeded(seed)
    _check_distillation(distillation)
    settings = PruningSettings(
        rate=rate,
        config=_config(method),
        criterion=scorer.with_data(None),
        coupling=coupling,
        exclude=check_strings("exclude", exclude, "layer-name patterns"),
        epochs=epochs,
        suppress=suppress,
        round_to=round_to,
        seed=seed,
        distillation_weight=distillation.weight if distillation else 0.0,
        temperature=distillation.temperature if distillation else 4.0,
    )
    scorer.check_data((model, given))
    wrapped = pruned_model(model, settings, given=given, criterion=scorer)
    if distillation is not None and distillation.weight:
        wrapped.teacher = distillation.teacher
    return wrapped


def _config(method: Any) -> Any:
    if not isinstance(method, str):
        return method  # `PruningSettings` looks at it
    check_choice("method", method, PRESETS)
    return PruningConfig.preset(method)


def _seed(seed: int | None) -> int:
    if seed is None:
        return random.SystemRandom().randrange(2**31)
    return check_seed("seed", seed)


def _check_distillation(distillation: Any) -> None:
    if distillation is not None:
        check_type(
            "distillation",
            distillation,
            Distillation,
            "a pgmpf_tf.Distillation(teacher) or None",
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: model={model!r} of type "
            f"{type(model).__name__}"
        )
    if isinstance(model, PrunedModel):
        raise ValueError(
            f"`model` is wrapped already. Received: model={model.name!r}. Wrap the "
            "plain model again to start anew."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: model={model.name!r}, which does not "
            "know its input shape yet. Give it a `keras.Input`, or call "
            "`model.build(input_shape)`."
        )
    own_step = type(model).train_step is not keras.Model.train_step
    if own_step and not isinstance(model, Functional):
        raise ValueError(
            "`model` has a `train_step` of its own, which can be kept only if its "
            "class is built from inputs and outputs, as a Functional model is. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
