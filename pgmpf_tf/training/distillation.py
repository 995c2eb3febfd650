"""A dense network teaches the one that is pruned: knowledge distillation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree
from keras.src import backend as keras_backend
from keras.src.losses.loss import unscale_loss_for_distribution

from pgmpf_tf._checks import check_number, check_type
from pgmpf_tf.backends.current import check_same_strategy

# Losses whose outputs are scores of classes, of which exactly one is right.
_OF_CLASSES = (
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.kl_divergence,
    keras.losses.sparse_categorical_crossentropy,
)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A dense network teaches the one that is pruned; `wrap(distillation=)` takes it.

    In training the loss is then (1 - weight) * the task's own + weight * the distance
    to the teacher's outputs (G. Hinton et al., 2015); penalties on weights keep their
    strength. An output that is compiled with a categorical cross-entropy gets the
    Kullback-Leibler divergence from the teacher's class probabilities, softened by the
    temperature (its `from_logits` says whether outputs are logits), times
    temperature^2; any other output the mean squared error. History has the distance as
    `distillation_loss`; validation is on the task's loss alone.

    Without labels the distance is all there is, whatever the weight:
    `model.compile("adam")` without a loss, and `model.fit(images)`.

    The teacher is not saved with the model: set `model.teacher` when it is loaded. A
    `train_step` of the model's own must call `self.compute_loss(x=..., ...)`, or the
    teacher is not heard.

    Example:
        >>> teacher = keras.models.load_model("dense.keras")
        >>> distillation = pgmpf_tf.Distillation(teacher, weight=0.5)
        >>> model = pgmpf_tf.wrap(keras_model, distillation=distillation)

    Attributes:
        teacher: a trained network with the same inputs and outputs as the model and
            weights of its own, a copy of the dense network as a rule.
        weight: weight of the distance in the loss, in [0, 1].
        temperature: by which logits are divided, in [0.01, 1000].

    Raises:
        TypeError: if `teacher` is not a Keras model, or a number is none.
        ValueError: if a number is out of range.
    """

    teacher: keras.Model
    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_type("teacher", self.teacher, keras.Model, "a Keras model")
        for name, interval in (("weight", "[0, 1]"), ("temperature", "[0.01, 1000]")):
            value = check_number(name, getattr(self, name), interval)
            object.__setattr__(self, name, value)


class DistillationLoss:
    """How far a model's outputs are from its teacher's, while it is trained.

    Not a layer, and not tracked by Keras: weights, summary and files of the model stay
    as they are without a teacher.

    Args:
        weight: the weight of the distance in the training loss, d; 0 for no teacher.
        temperature: by which scores of classes are divided, T.

    Attributes:
        model: the model that learns; to be set before the teacher.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        self.weight = weight
        self.model: keras.Model = None
        self._temperature = temperature
        self._teacher: keras.Model | None = None
        # Made here, under the model's strategy: a training step may not make variables.
        self._mean: keras.metrics.Mean = None
        if weight:
            self._mean = keras.metrics.Mean(name="distillation_loss")

    @property
    def teacher(self) -> keras.Model | None:
        """The teacher, to be set again after a model is loaded from a file."""
        return self._teacher

    @teacher.setter
    def teacher(self, teacher: keras.Model) -> None:
        if not self.weight:
            raise ValueError(
                "This model was wrapped without a teacher. Wrap the plain model with "
                "`distillation=pgmpf_tf.Distillation(teacher)`."
            )
        check_teacher(teacher, self.model)
        self._teacher = teacher
        # A training step that was traced holds the teacher of then.
        self.model.train_function = None

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        """What holds the mean distance of the epoch."""
        return [] if self._mean is None else self._mean.variables

    def check(self) -> None:
        """Raises ValueError if there ought to be a teacher and is none."""
        if self.weight:
            self._needed_teacher()

    def _needed_teacher(self) -> keras.Model:
        if self._teacher is None:
            raise ValueError(
                "This model was wrapped with a teacher, which a file does not hold: "
                "set `model.teacher` to the dense network again. Received: teacher=None"
            )
        return self._teacher

    def distance(self, x: Any, outputs: Any, sample_weight: Any) -> Any:
        """The distance to the teacher's outputs on a batch, a scalar."""
        teacher = self._needed_teacher()
        taught = tree.map_structure(keras.ops.stop_gradient, teacher(x, training=False))
        distance = sum(
            factor * self._of_output(loss, *pair, weights)
            for loss, factor, pair, weights in _by_output(
                self.model._compile_loss, taught, outputs, sample_weight
            )
        )
        self._mean.update_state(
            unscale_loss_for_distribution(distance),
            sample_weight=keras.ops.shape(tree.flatten(outputs)[0])[0],
        )
        return distance

    def _of_output(self, loss: Any, taught: Any, output: Any, weights: Any) -> Any:
        if getattr(loss, "fn", None) not in _OF_CLASSES:
            return keras.losses.MeanSquaredError()(taught, output, weights)
        logits = loss._fn_kwargs.get("from_logits", False)
        axis = loss._fn_kwargs.get("axis", -1)
        taught, output = (
            self._softened(values, logits, axis) for values in (taught, output)
        )
        divergence = keras.losses.KLDivergence()(taught, output, weights)
        # Gradients of softened scores are smaller by about T^2.
        return self._temperature**2 * divergence

    def _softened(self, values: Any, logits: bool, axis: int) -> Any:
        """Probabilities of classes at the temperature, along the last axis."""
        ops = keras.ops
        values = ops.moveaxis(ops.cast(values, keras.config.floatx()), axis, -1)
        if not logits:
            # Their logarithms are logits, up to a constant that softmax ignores.
            values = ops.log(ops.maximum(values, keras.config.epsilon()))
        return ops.softmax(values / self._temperature)

    def reset(self) -> None:
        """Starts an epoch."""
        if self._mean is not None:
            self._mean.reset_state()

    def values(self) -> dict[str, float]:
        """The mean distance of the epoch, for History."""
        if self._mean is None:
            return {}
        return {self._mean.name: float(self._mean.result())}


def _by_output(
    compiled: Any, taught: Any, outputs: Any, weights: Any
) -> Iterator[tuple[Any, float, tuple[Any, Any], Any]]:
    """The loss, its weight, the pair of outputs and the sample weights of each output.

    Outputs without a loss of their own are not taught. Without any compiled loss, all
    are, and the loss is None.
    """
    if compiled is None:
        for pair in zip(tree.flatten(taught), tree.flatten(outputs), strict=True):
            yield None, 1.0, pair, None if tree.is_nested(weights) else weights
        return
    structure = compiled._y_pred_build_structure
    packed = [
        tree.pack_sequence_as(structure, tree.flatten(x)) for x in (taught, outputs)
    ]
    for part in compiled._flat_losses:
        pair = tuple(_at(part.path, x) for x in packed)
        factor = 1.0 if part.loss_weights is None else part.loss_weights
        own = _at(part.path, weights) if tree.is_nested(weights) else weights
        yield part.loss, factor, pair, own


def _at(path: tuple[Any, ...], structure: Any) -> Any:
    for key in path:
        structure = structure[key]
    return structure


def check_teacher(teacher: Any, model: keras.Model) -> None:
    """Raises what is wrong with a teacher of `model`.

    Raises:
        TypeError: if it is not a Keras model.
        ValueError: if it shares weights with `model`, takes other inputs, gives other
            outputs, or was made under another distribution strategy.
    """
    check_type("teacher", teacher, keras.Model, "a Keras model")
    own = {id(variable) for variable in model.variables}
    if any(id(variable) in own for variable in teacher.variables):
        raise ValueError(
            "`teacher` must not share weights with `model`: it would change with it. "
            "Give it a copy: keras.models.clone_model(model), then set_weights. "
            f"Received: teacher={teacher.name!r}"
        )
    check_same_strategy("teacher", teacher, model)
    inputs = tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, x.dtype), model.input
    )
    try:
        outputs = keras_backend.compute_output_spec(teacher, inputs)
    except Exception as error:  # a teacher may be any model
        raise ValueError(
            f"`teacher` must take the inputs of `model`, {_shapes(inputs)}. Received: "
            f"teacher={teacher.name!r}, which raised: {error}"
        ) from error
    if _shapes(_plain(outputs)) != _shapes(_plain(model.output)):
        raise ValueError(
            "`teacher` must give outputs of the same structure and shapes as `model`, "
            f"{_shapes(model.output)}. Received: teacher={teacher.name!r} with "
            f"{_shapes(outputs)}"
        )


def _plain(tensors: Any) -> Any:
    """A single output is the same in a list: Keras' clones give it without."""
    flat = tree.flatten(tensors)
    return flat[0] if len(flat) == 1 else tensors


def _shapes(tensors: Any) -> Any:
    return tree.map_structure(lambda x: tuple(x.shape), tensors)
