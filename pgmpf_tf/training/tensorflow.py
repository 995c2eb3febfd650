"""The training step on Keras' TensorFlow backend: all that is specific to it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from keras.src.trainers import data_adapters

from pgmpf_tf.channels.units import Member
from pgmpf_tf.training.optimizers import suppresses_update, uses_average
from pgmpf_tf.training.slots import SlotLayout
from pgmpf_tf.training.state import PruningState

_depth: Counter[int] = Counter()
_lock = threading.Lock()


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which a model that shares the layers of `model` must be made.

    Raises:
        ValueError: if the caller stands in the scope of another strategy.
    """
    strategy = model._distribute_strategy
    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy:
        raise ValueError(
            "`wrap` was called in the scope of a "
            f"{_name(tf.distribute.get_strategy())}, but the model was made under "
            f"{_name(strategy)}. Make and wrap the model in the same "
            "`strategy.scope()`."
        )
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def check_strategy(model: keras.Model) -> None:
    """Raises ValueError if the optimizer was made under another strategy."""
    made = getattr(model.optimizer, "_distribution_strategy", None)
    if made is not None and made is not model.distribute_strategy:
        raise ValueError(
            f"The optimizer was made under {_name(made)}, but the model was wrapped "
            f"under {_name(model.distribute_strategy)}. Make the model, wrap it, and "
            "compile it with an optimizer made in the same `strategy.scope()`."
        )


def check_same_strategy(argument: str, model: keras.Model, other: keras.Model) -> None:
    """Raises ValueError if a model was made under another strategy than `other`."""
    made, expected = model._distribute_strategy, other._distribute_strategy
    if made is not expected:
        raise ValueError(
            f"`{argument}` was made under {_name(made)}, but the model to prune under "
            f"{_name(expected)}. Make both in the same `strategy.scope()`."
        )


def _name(strategy: tf.distribute.Strategy | None) -> str:
    name = type(strategy).__name__
    return name if strategy and "Default" not in name else "no strategy"


def factors(
    state: PruningState, layout: SlotLayout, dropout: float, step: tf.Tensor
) -> dict[int, tf.Tensor]:
    """The factor of each variable: M + (1 - M)(1 - lambda) b, per channel.

    Args:
        state: masks M and suppression lambda.
        layout: which slot of a layer stands for which unit.
        dropout: probability that b is 0, drawn anew for each slot.
        step: number of the step. The same step and seed give the same draw, on every
            replica and after every restart.

    Returns:
        From `id` of a variable, Keras' or TensorFlow's, to a factor that broadcasts to
        it.
    """
    mask = tf.gather(state.mask.value, layout.units)
    passed = 1.0 - state.suppression.value
    if dropout > 0.0:
        seed = tf.stack([state.seed.value, tf.cast(step, tf.int32)])
        draw = tf.random.stateless_uniform(layout.units.shape, seed, alg="philox")
        passed = tf.where(draw < dropout, 0.0, passed)
    factor = mask + (1.0 - mask) * passed
    result = {}
    for shape in layout.shapes:
        flat = factor if shape.slots is None else tf.gather(factor, shape.slots)
        flat = tf.cast(flat, shape.dtype)
        flat = tf.reshape(flat, (-1, *(1,) * shape.trailing))
        pieces = tf.split(flat, shape.sizes)
        for variable, number in shape.pieces:
            # A step of the user's own may name the variable or what is inside it.
            result[id(variable)] = result[id(variable.value)] = pieces[number]
    return result


@contextlib.contextmanager
def intercepted(
    optimizer: keras.optimizers.Optimizer, apply: Callable[..., None]
) -> Iterator[None]:
    """Lets `apply(original, gradients, variables)` stand in for `optimizer.apply`.

    Replicas trace in threads that wait for each other inside the optimizer, so several
    may be in here at once: the first one in installs, the last one out removes.
    """
    original = type(optimizer).apply

    def replacement(gradients: Sequence[Any], trainable_variables: Any = None) -> None:
        apply(lambda *args: original(optimizer, *args), gradients, trainable_variables)

    with _lock:
        _depth[id(optimizer)] += 1
        if _depth[id(optimizer)] == 1:
            # Not by setattr: the optimizer would track what is only visiting.
            optimizer.__dict__["apply"] = replacement
    try:
        yield
    finally:
        with _lock:
            _depth[id(optimizer)] -= 1
            if not _depth[id(optimizer)]:
                del _depth[id(optimizer)], optimizer.__dict__["apply"]


class MaskedTrainer:
    """Mixin for a Keras model: its own train step, with masked filters slowed down."""

    def train_step(self, data: Any) -> Any:
        """Runs the model's own step; the optimizer sees masked gradients."""
        if not self._pruner.layout.shapes or self.optimizer is None:
            return self._for_workers(super().train_step(data))
        with intercepted(self.optimizer, self._apply_masked):
            return self._for_workers(super().train_step(data))

    def test_step(self, data: Any) -> Any:
        """Runs the model's own step."""
        return self._for_workers(super().test_step(data))

    def _apply_masked(
        self, apply: Callable[..., None], gradients: Sequence[Any], variables: Any
    ) -> None:
        variables = list(variables or self.trainable_variables)
        masks = self._factors(self.optimizer)
        if not suppresses_update(self._settings.suppress, self.optimizer):
            apply(_multiply(gradients, variables, masks), variables)
            return
        if uses_average(self.optimizer):
            # The average is taken inside `apply`, before the step is scaled: what is
            # gone for good must not move there either.
            gone = {key: tf.cast(mask != 0, mask.dtype) for key, mask in masks.items()}
            gradients = _multiply(gradients, variables, gone)
        chosen = [v for v in variables if id(v) in masks]
        before = [tf.convert_to_tensor(v) for v in chosen]
        apply(gradients, variables)
        tf.__internal__.distribute.interim.maybe_merge_call(
            _scale_steps,
            self.distribute_strategy,
            [v.value if isinstance(v, keras.Variable) else v for v in chosen],
            before,
            [masks[id(v)] for v in chosen],
        )

    def _factors(self, optimizer: keras.optimizers.Optimizer) -> dict[int, tf.Tensor]:
        return factors(
            self._pruner.state,
            self._pruner.layout,
            self._settings.config.dropout,
            tf.convert_to_tensor(optimizer.iterations),
        )

    def _masked(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer,
    ) -> list[Any]:
        return _multiply(gradients, variables, self._factors(optimizer))

    def _for_workers(self, logs: Any) -> Any:
        """Gives each metric an axis over which Keras can average the workers."""
        if not _multi_worker(self.distribute_strategy):
            return logs
        return tf.nest.map_structure(lambda v: tf.reshape(v, (1,)), logs)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None):
        # Keras averages the batch over workers, which no tensor type supports
        # (keras-team/keras #20585). Any replica's part has the right shape.
        if iterator is not None and _multi_worker(self.distribute_strategy):
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda v: self.distribute_strategy.experimental_local_results(v)[0],
                next(batches),
            )
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)


def _multi_worker(strategy: tf.distribute.Strategy) -> bool:
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def _multiply(
    gradients: Sequence[Any], variables: Sequence[Any], masks: dict[int, tf.Tensor]
) -> list[Any]:
    return [
        gradient
        if gradient is None or id(variable) not in masks
        else gradient * masks[id(variable)]
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def _scale_steps(
    distribution: tf.distribute.Strategy,
    variables: Sequence[tf.Variable],
    before: Sequence[tf.Tensor],
    masks: Sequence[tf.Tensor],
) -> None:
    def scale(variable: tf.Variable, old: tf.Tensor, mask: tf.Tensor) -> None:
        # Exact where the mask is 1, and where a filter was and stays zero.
        variable.assign_add((mask - 1.0) * (variable - old))

    for variable, old, mask in zip(variables, before, masks, strict=True):
        distribution.extended.update(variable, scale, args=(old, mask), group=False)


traced = functools.partial(tf.function, reduce_retracing=True)
"""Turns a function of tensors into one that runs as a graph."""


def batches(
    argument: str, data: Any, limit: int | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """The batches of whatever `fit` takes, by Keras' own adapters.

    Args:
        argument: the name of the caller's argument, for messages.
        data: arrays (32 samples make a batch), `(x, y)` or `(x, y, sample_weight)`, a
            `tf.data.Dataset`, a `PyDataset` or a generator.
        limit: how many batches at most; all if None.

    Yields:
        Inputs, targets and sample weights of a batch; None for what is not there.

    Raises:
        ValueError: if the data are none of these or empty, or never end and there is
            no limit.
    """
    parts = data if isinstance(data, tuple) else (data,)
    try:
        adapter = data_adapters.get_data_adapter(*parts)
        dataset = adapter.get_tf_dataset()
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be what `fit` takes, with one batch at least: arrays, "
            "(x, y), a tf.data.Dataset, a PyDataset or a generator of tuples. "
            f"Received: {argument} of type {type(data).__name__}: {error}"
        ) from error
    known = [n for n in (limit, adapter.num_batches) if n is not None]
    endless = isinstance(data, keras.utils.PyDataset) and data.num_batches is None
    if not known and (endless or dataset.cardinality() == tf.data.INFINITE_CARDINALITY):
        raise ValueError(
            f"`{argument}` never ends: say how many batches to take of it."
        )
    count = 0
    adapter.on_epoch_begin()
    try:
        for batch in dataset.take(min(known, default=-1)):
            count += 1
            yield keras.utils.unpack_x_y_sample_weight(
                tree.map_structure(_or_none, batch)
            )
    finally:
        adapter.on_epoch_end()
    if not count:
        raise ValueError(f"`{argument}` must hold at least one batch. Received: none")


def _or_none(value: Any) -> Any:
    """Keras writes the None in `(x, None, weights)` as an empty `Optional`."""
    if isinstance(value, tf.experimental.Optional):
        return value.get_value() if value.has_value() else None
    return value


def contributions(
    model: keras.Model, loss: Callable[..., Any], members: Sequence[Member], data: Any
) -> list[np.ndarray]:
    """What the slices of variables contribute to the loss of each batch.

    Args:
        model: is called with `training=False`.
        loss: a function of targets, outputs and sample weights to a number.
        members: the variables and their axes.
        data: see `batches`.

    Returns:
        For each member the sum over each slice of gradient * weight, of shape
        `(slices, batches)`.

    Raises:
        ValueError: if there are no data or several workers, whose masks would part.
    """
    if _multi_worker(model.distribute_strategy):
        raise ValueError(
            "A criterion that needs data cannot be used with several workers: each "
            "would score its own data, and their masks would differ."
        )
    variables = [member.variable.value for member in members]

    @traced
    def products(x: Any, y: Any, weights: Any) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = loss(y, model(x, training=False), weights)
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        return [
            tf.reduce_sum(
                tf.cast(gradient * variable, "float32"),
                [axis for axis in range(len(variable.shape)) if axis != member.axis],
            )
            for member, variable, gradient in zip(
                members, variables, gradients, strict=True
            )
        ]

    found = [products(*batch) for batch in batches("data", data)]
    return [np.stack(of_member, axis=-1) for of_member in zip(*found, strict=True)]


class SummaryLog:
    """TensorBoard event files in a directory.

    Args:
        directory: where they go.
    """

    def __init__(self, directory: str) -> None:
        self._writer = tf.summary.create_file_writer(directory)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        histograms: Mapping[str, np.ndarray],
    ) -> None:
        """Writes named numbers, and arrays as histograms, for a step."""
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step)
            for name, values in histograms.items():
                tf.summary.histogram(name, values, step)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
