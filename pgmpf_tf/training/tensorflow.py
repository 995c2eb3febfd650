"""The training step on Keras' TensorFlow backend: what is specific to it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from pgmpf_tf.backends.tensorflow import has_several_workers
from pgmpf_tf.training.optimizers import suppresses_update, uses_average
from pgmpf_tf.training.slots import SlotLayout
from pgmpf_tf.training.state import PruningState

_depth: Counter[int] = Counter()
_lock = threading.Lock()


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
        if not has_several_workers(self):
            return logs
        return tf.nest.map_structure(lambda v: tf.reshape(v, (1,)), logs)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None):
        # Keras averages the batch over workers, which no tensor type supports
        # (keras-team/keras #20585). Any replica's part has the right shape.
        if iterator is not None and has_several_workers(self):
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda v: self.distribute_strategy.experimental_local_results(v)[0],
                next(batches),
            )
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)


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
