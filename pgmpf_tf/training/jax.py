"""The training step on Keras' JAX backend: what is specific to it.

The step is one jitted function of a state, whose buffers are donated. Keras gathers
that state from the model's lists of variables; a variable in none of them would be a
constant of the compiled step. The pruning state is among `model.variables`; here, so
are the weights of the teacher.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import keras
from keras.src.backend.common.stateless_scope import get_stateless_scope

from pgmpf_tf.training.trainer import Trainer

_STATELESS_CALL = inspect.unwrap(keras.layers.Layer.stateless_call).__code__


class MaskedTrainer(Trainer):
    """Mixin for a Keras model: its own train step, with masked filters slowed down."""

    _teacher_is_state = True

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """As of any Keras model, and the weights of the teacher."""
        found: list[keras.Variable] = super().non_trainable_variables
        distillation = vars(self).get("_distillation")
        teacher = None if distillation is None else distillation.teacher
        if teacher is None or not self._teacher_is_state:
            return found
        return found + teacher.variables

    def _sync_state(self) -> None:
        """Takes the state back from the steps of `fit`, which keep it to themselves."""
        self.jax_state_sync()

    def _after_fit(self) -> None:
        # With `use_ema` the weights are the optimizer's averages now. JAX takes no
        # buffer over twice, so that the next step would fail, as it does in Keras.
        averages = {id(variable.value) for variable in self.optimizer.variables}
        for variable in self.trainable_variables:
            if id(variable.value) in averages:
                variable.assign(jax.numpy.copy(variable.value))

    def _outermost(self) -> keras.layers.Layer | None:
        # The step of another model calls that one's `call`, and so starts no context.
        frame = inspect.currentframe()
        while frame is not None and frame.f_code is not _STATELESS_CALL:
            frame = frame.f_back
        return None if frame is None else frame.f_locals["self"]

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """The state by the variables' paths, without the teacher's."""
        with self._without_teacher():
            return super().get_state_tree(value_format)

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Assigns what `get_state_tree` gave, and nothing to the teacher."""
        with self._without_teacher():
            super().set_state_tree(state_tree)

    @contextlib.contextmanager
    def _without_teacher(self) -> Iterator[None]:
        # Its variables have the paths of the student's.
        self.__dict__["_teacher_is_state"] = False
        try:
            yield
        finally:
            del self.__dict__["_teacher_is_state"]

    def train_step(self, state: Any, data: Any) -> Any:
        """Runs the model's own step; the optimizer sees masked gradients."""
        if not self._is_masked():
            return super().train_step(state, data)
        _, non_trainable_variables, optimizer_variables, *_ = state
        with self._masking(
            self.optimizer, non_trainable_variables, optimizer_variables
        ):
            return super().train_step(state, data)

    def _masked(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer,
    ) -> list[Any]:
        scope = get_stateless_scope()
        known = scope and scope.get_current_value(self._pruner.state.mask) is not None
        if not known and any(isinstance(g, jax.core.Tracer) for g in gradients):
            raise ValueError(
                "A compiled function must get the masks as arguments, or it would keep "
                "those of the moment when it was compiled: call "
                "`stateless_apply_gradients` in it, or `stateless_mask_gradients`."
            )
        return super()._masked(gradients, variables, optimizer)
