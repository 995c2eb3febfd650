"""The training step on Keras' TensorFlow backend: what is specific to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import Functional

from pgmpf_tf.backends.current import has_several_workers
from pgmpf_tf.training.masking import Factors, intercepted
from pgmpf_tf.training.optimizers import steps_follow_rate
from pgmpf_tf.training.trainer import Trainer


class MaskedTrainer(Trainer):
    """Mixin for a Keras model: its own train step, with masked filters slowed down."""

    distribute_strategy: tf.distribute.Strategy
    train_function: Any

    def train_step(self, data: Any) -> Any:
        """Runs the model's own step; the optimizer sees masked gradients."""
        if not self._is_masked():
            return self._for_workers(super().train_step(data))
        with intercepted([self.optimizer], self._apply):
            return self._for_workers(super().train_step(data))

    def test_step(self, data: Any) -> Any:
        """Runs the model's own step."""
        return self._for_workers(super().test_step(data))

    def make_train_function(self, force: bool = False) -> Any:
        """Makes the function of a step; the arguments are those of Keras'."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = self._with_variables_made(self.train_function)
        return self.train_function

    def _with_variables_made(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A step of Keras' own, which is traced twice if it has to make variables."""
        if super().train_step.__func__ is not keras.Model.train_step:
            return function

        def run(iterator: Any) -> Any:
            optimizer, metrics = self.optimizer, self._compile_metrics
            if not (optimizer is None or optimizer.built) and _starts_alike(optimizer):
                with keras.name_scope(optimizer.name, caller=optimizer):
                    optimizer.build(self.trainable_variables)
            if metrics is not None and not metrics.built:
                self._build_metrics(metrics, getattr(iterator, "element_spec", None))
            return function(iterator)

        return run

    def _build_metrics(self, metrics: Any, element_spec: Any) -> None:
        """Builds metrics for batches of a kind, as far as it is known beforehand."""
        _, y, _ = keras.utils.unpack_x_y_sample_weight(element_spec)
        parts = tf.nest.flatten(y)
        known = all(isinstance(part, tf.TensorSpec) and part.shape for part in parts)
        if known and super().call.__func__ is Functional.call:
            metrics.build(y, self.output)

    def _factors(self, optimizer: keras.optimizers.Optimizer) -> Factors:
        found = dict(super()._factors(optimizer))
        for pieces in self._pruner.layout.pieces:
            for variable, _ in pieces.of_variables:
                # A step of the user's own may name what is inside the variable.
                found[id(variable.value)] = found[id(variable)]
        return found

    def _scales_rates(
        self, optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]
    ) -> bool:
        # The factors are one replica's own; the optimizer steps once for all of them.
        one = self.distribute_strategy.num_replicas_in_sync == 1
        return one and steps_follow_rate(optimizer, variables)

    def _values(self, variables: Sequence[Any]) -> list[Any]:
        return [tf.convert_to_tensor(variable) for variable in variables]

    def _scale_steps(
        self, variables: Sequence[Any], before: Sequence[Any], by: Sequence[Any]
    ) -> None:
        tf.__internal__.distribute.interim.maybe_merge_call(
            _scale_each,
            self.distribute_strategy,
            [v.value if isinstance(v, keras.Variable) else v for v in variables],
            before,
            by,
        )

    def _for_workers(self, logs: Any) -> Any:
        """Gives each metric an axis over which Keras can average the workers."""
        if not has_several_workers(self):
            return logs
        return tf.nest.map_structure(lambda v: tf.reshape(v, (1,)), logs)

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
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


def _scale_each(
    distribution: tf.distribute.Strategy,
    variables: Sequence[tf.Variable],
    before: Sequence[tf.Tensor],
    by: Sequence[tf.Tensor],
) -> None:
    def scale(variable: tf.Variable, old: tf.Tensor, factor: tf.Tensor) -> None:
        # Exact where the factor is 1, and where a filter was and stays zero.
        variable.assign_add((factor - 1.0) * (variable - old))

    for variable, old, factor in zip(variables, before, by, strict=True):
        distribution.extended.update(variable, scale, args=(old, factor), group=False)


def _starts_alike(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether what an optimizer remembers at first is the same whatever the weights.

    ScheduleFreeAdamW starts from the weights themselves, which a build within the trace
    of a step loses; but what plain Keras does is not for a wrapped model to mend.
    """
    first = []
    for value in (0.0, 1.0):
        try:
            probe = type(optimizer).from_config(optimizer.get_config())
            probe.build([keras.Variable(np.full((2, 2), value), name="probe")])
        except Exception:  # whatever an optimizer of a user's own raises: nobody knows
            return False
        first.append([keras.ops.convert_to_numpy(v) for v in probe.variables])
    return all(map(np.array_equal, *first))
