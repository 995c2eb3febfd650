"""`wrap`: from a Keras model to one that is pruned while it is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import numbers
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

from pgmpf_tf.backends.current import strategy_scope
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.search import find_rates
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import functional_of
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.scores.contributions import DataScoring
from pgmpf_tf.scores.criteria import Scorer
from pgmpf_tf.training.distillation import Distillation
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.pruner import Pruner
from pgmpf_tf.training.settings import Settings


def wrap(
    model: keras.Model,
    rate: float | Mapping[str, float] | Budget | Callable[[int], tuple[Any, Any]] = 0.5,
    *,
    method: str | PruningConfig = "pgmpf",
    criterion: str | Scorer = "l2",
    coupling: str = "grouped",
    exclude: str | Sequence[str] = (),
    epochs: int | None = None,
    dropout: float | None = None,
    pretrained: bool | None = None,
    suppress: str = "auto",
    round_to: int = 1,
    combine: str = "sum",
    normalize: bool = False,
    data: Any = None,
    loss: Any = None,
    teacher: keras.Model | None = None,
    distillation: float | None = None,
    temperature: float = 4.0,
    seed: int | None = None,
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
        method: `"pgmpf"`, `"pgmpf_no_dropout"`, `"asrfp"`, `"asfp"`, `"sfp"`, `"hard"`,
            or a `PruningConfig`.
        criterion: how filters are scored: `"l1"`, `"l2"`, `"geometric_median"`,
            `"batchnorm_scale"`, `"taylor"` (needs `data`), `"random"`, or a function
            from a matrix `(filters, values)` to scores `(filters,)`.
        coupling: `"grouped"` prunes channels that are added together as one;
            `"independent"` prunes each layer for itself.
        exclude: name patterns of layers whose filters stay.
        epochs: number of epochs of the schedules. None takes it from `fit`. Needed if
            training is spread over several calls of `fit`, or done by a loop of one's
            own.
        dropout: probability with which the gradient of a pruned filter is dropped in a
            step. None takes the method's own.
        pretrained: whether the model is trained already (the schedules' constants
            differ). None takes the method's own.
        suppress: `"gradient"` scales the gradients of pruned filters, as published,
            `"update"` the step that the optimizer makes of them. `"auto"` is
            `"gradient"` for SGD and `"update"` for optimizers that divide by the
            gradient's magnitude, such as Adam.
        round_to: the number of filters kept in a group is a multiple of this.
        combine: how the scores of the filters of one unit become the unit's: `"sum"`,
            `"mean"` or `"max"`.
        normalize: whether scores are divided by their layer's mean before that.
        data: what `fit` takes, with targets, but no generator: on these data the
            criterion `"taylor"` scores filters anew at each update of the masks, with
            `training=False`. Some batches are enough; they are not saved with the
            model, so set `model.criterion_data` when it is loaded.
        loss: what `compile` takes as a loss: the criterion `"taylor"` asks how filters
            contribute to it. None takes the loss that the wrapped model, or `model`,
            is compiled with. Penalties on weights do not count.
        teacher: a trained network with the same inputs and outputs and weights of its
            own, a copy of the dense network as a rule. In training the loss is then
            (1 - distillation) * the task's own + distillation * the distance to the
            teacher's outputs (G. Hinton et al., 2015); penalties on weights keep their
            strength. An output that is compiled with a categorical cross-entropy gets
            the Kullback-Leibler divergence from the teacher's class probabilities,
            softened by the temperature (its `from_logits` says whether outputs are
            logits), times temperature^2; any other output the mean squared error.
            History has the distance as `distillation_loss`; validation is on the
            task's loss alone. The teacher is not saved with the model: set
            `model.teacher` when it is loaded. A `train_step` of the model's own must
            call `self.compute_loss(x=..., ...)`, or the teacher is not heard.
        distillation: weight of the distance, in [0, 1]. None is 0.5 with a teacher.
        temperature: by which logits are divided, in [0.01, 1000].
        seed: seed of the random draws. None draws one, and keeps it with the model.

    Returns:
        The model that prunes.

    Raises:
        ValueError: if an argument is out of range, a name is unknown or a pattern
            matches nothing, if the model is not built, is wrapped already or has
            nothing to prune, or if it was made under another distribution strategy, or
            if the criterion lacks data, or if `teacher` does not fit the model.
        TypeError: if an argument is of a wrong type.
    """
    _check_model(model)
    given = model
    if not isinstance(model, (Functional, keras.Sequential)):
        model = functional_of(model)
    config = PruningConfig.preset(method) if isinstance(method, str) else method
    if isinstance(config, PruningConfig):
        changes = {"dropout": dropout, "pretrained": pretrained}
        config = config.replace(**{k: v for k, v in changes.items() if v is not None})
    settings = Settings(
        rate=_plain_numbers(rate),
        config=config,
        criterion=criterion,
        coupling=coupling,
        exclude=(exclude,) if isinstance(exclude, str) else tuple(exclude),
        epochs=epochs,
        suppress=suppress,
        round_to=round_to,
        seed=random.SystemRandom().randrange(2**31) if seed is None else seed,
        combine=combine,
        normalize=normalize,
        loss=loss,
        distillation=_distillation(teacher, distillation),
        temperature=temperature,
        frozen=tuple(layer.name for layer in _leaves(model) if not layer.trainable),
    )
    if settings.resolve_criterion().needs_data and data is None:
        raise ValueError(
            f"criterion={criterion!r} needs `data`: what `fit` takes, with targets. "
            "Received: data=None"
        )
    wrapped = wrap_with(model, settings, given=given, data=data)
    if settings.distillation:
        wrapped.teacher = teacher
    return wrapped


def _distillation(teacher: Any, weight: float | None) -> float:
    if weight and teacher is None:
        raise ValueError(
            "`distillation` needs a `teacher`. Received: "
            f"distillation={weight}, teacher=None"
        )
    if weight is None:
        return 0.0 if teacher is None else 0.5
    return weight


def _plain_numbers(rate: Any) -> Any:
    """Rates as Python floats, which a file can hold; NumPy's scalars are welcome."""
    if isinstance(rate, Mapping):
        return {pattern: _plain_numbers(value) for pattern, value in rate.items()}
    if isinstance(rate, numbers.Real) and not isinstance(rate, bool):
        return float(rate)
    return rate


def wrap_with(
    model: keras.Model,
    settings: Settings,
    *,
    given: keras.Model | None = None,
    data: Any = None,
) -> PrunedModel:
    """`wrap` with all arguments in one object, apart from what no file can hold.

    Args:
        model: a Functional or Sequential model.
        settings: the arguments.
        given: the model that the user had, if `model` was made of it.
        data: what criteria look at.
    """
    scoring = DataScoring(data, settings.loss)
    scoring.models = (model, given or model)
    with strategy_scope(model), _frozen(model, settings.frozen):
        analysis = analyze(model, coupling=settings.coupling, exclude=settings.exclude)
        if isinstance(settings.rate, Budget) and settings.found_rates is None:
            rates = find_rates(
                model,
                analysis,
                settings.resolve_criterion().measured(analysis.groups, scoring.measure),
                settings.rate,
                settings.round_to,
            )
            settings = dataclasses.replace(settings, found_rates=rates)
        pruner = Pruner(model, analysis, settings, scoring.measure)
        distillation = Distillation(settings.distillation, settings.temperature)
        wrapped = _pruned_class(type(model))(
            model, pruner, settings, scoring, distillation
        )
    scoring.models = (wrapped, *scoring.models)
    return wrapped


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    # Not `model._flatten_layers()`: a model may hold others that are not in its graph,
    # such as a teacher with layers of the same names.
    layers = [inner for layer in model.layers for inner in layer._flatten_layers()]
    return [layer for layer in layers if not layer._layers]


@contextlib.contextmanager
def _frozen(model: keras.Model, names: Sequence[str]) -> Iterator[None]:
    """Makes exactly the layers `names` not trainable, for a while.

    A model loaded from a file must find the units that it had when it was wrapped.
    """
    changed = [
        layer for layer in _leaves(model) if layer.trainable == (layer.name in names)
    ]
    for layer in changed:
        layer.trainable = not layer.trainable
    try:
        yield
    finally:
        for layer in changed:
            layer.trainable = not layer.trainable


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


@functools.cache
def _pruned_class(base: type[keras.Model]) -> type[PrunedModel]:
    """The class of the wrapped model: it keeps the methods of the user's own class."""
    if base is Functional or not issubclass(base, Functional):
        return PrunedModel
    # The name is the registered one: a file is always loaded by PrunedModel, which
    # wraps the user's model anew.
    derived = type("PrunedModel", (PrunedModel, base), {"__module__": __name__})
    return keras.saving.register_keras_serializable("pgmpf_tf")(derived)
