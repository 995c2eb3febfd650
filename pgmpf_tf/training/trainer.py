"""What the masked training step is on every backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional

from pgmpf_tf._checks import check_sequence
from pgmpf_tf.training.distillation import DistillationLoss
from pgmpf_tf.training.masking import (
    Apply,
    Factors,
    factors,
    intercepted,
    multiply,
    where_not_zero,
)
from pgmpf_tf.training.optimizers import (
    finite_without_gradient,
    innermost,
    scaled_steps,
    suppresses_update,
    uses_average,
)
from pgmpf_tf.training.pruner import Pruner
from pgmpf_tf.training.settings import PruningSettings


class Trainer(Functional):
    """Mixin for a Keras model, from which each backend derives its `MaskedTrainer`."""

    optimizer: Any
    _pruner: Pruner
    _settings: PruningSettings
    _distillation: DistillationLoss

    @property
    def variables(self) -> list[keras.Variable]:
        """All state that a step reads or changes; that of pruning is part of it."""
        found: list[keras.Variable] = super().variables
        state = vars(self).get("pruning_state")  # none yet while the model is made
        return found if state is None else found + state.variables

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        """The variables of all metrics, and of the mean distance to a teacher."""
        found: list[keras.Variable] = super().metrics_variables
        return found + self._distillation.metrics_variables

    def _sync_state(self) -> None:
        """Makes variables hold in mid-epoch what the last step has left."""

    def _after_fit(self) -> None:
        """Sets right what Keras' `fit` leaves behind."""

    def _outermost(self) -> keras.layers.Layer | None:
        """The layer whose call has led to this model's, if it is told."""
        context = global_state.get_global_attribute("current_call_ctx")
        return getattr(context, "entry_layer", None)

    def _is_masked(self) -> bool:
        """Whether a training step has anything to mask."""
        return bool(self._pruner.layout.pieces) and self.optimizer is not None

    def _factors(self, optimizer: keras.optimizers.Optimizer) -> Factors:
        """The factors of the step that the optimizer is to take next."""
        return factors(
            self._pruner.state,
            self._pruner.layout,
            self._settings.config.dropout,
            optimizer.iterations,
        )

    def _values_of_state(
        self,
        optimizer: keras.optimizers.Optimizer,
        non_trainable_variables: Sequence[Any],
        optimizer_variables: Sequence[Any],
    ) -> keras.StatelessScope:
        """A scope in which variables have the values of a state.

        Raises:
            ValueError: if there is not one value for each variable.
        """
        parts = {
            "non_trainable_variables": (
                self.non_trainable_variables,
                non_trainable_variables,
            ),
            "optimizer_variables": (optimizer.variables, optimizer_variables),
        }
        for name, (variables, values) in parts.items():
            values = check_sequence(name, values, "values of variables")
            self._check_count(name, variables, values)
        pairs = [pair for part in parts.values() for pair in zip(*part, strict=True)]
        return keras.StatelessScope(pairs)

    @staticmethod
    def _check_count(
        name: str, variables: Sequence[Any], values: Sequence[Any]
    ) -> None:
        if len(variables) != len(values):
            raise ValueError(
                f"`{name}` must hold one value for each of the {len(variables)} "
                f"variables. Received: {len(values)} values"
            )

    @contextlib.contextmanager
    def _masking(
        self,
        optimizer: keras.optimizers.Optimizer,
        non_trainable_variables: Sequence[Any],
        optimizer_variables: Sequence[Any],
    ) -> Iterator[None]:
        """Lets the optimizer's `stateless_apply` take steps masked by a state's masks.

        Raises:
            ValueError: if there is not one value for each variable.
        """
        with self._values_of_state(
            optimizer, non_trainable_variables, optimizer_variables
        ):
            by = self._factors(optimizer)

        def apply_in_scope(
            inner: keras.optimizers.Optimizer,
            apply: Apply,
            gradients: Sequence[Any],
            variables: Any,
        ) -> None:
            # In a scope that may not know the masks.
            variables = list(variables or inner._trainable_variables)
            self._apply_masked(optimizer, by, apply, gradients, variables)

        # The innermost ones: a wrapper's `stateless_apply` does not call its `apply`.
        with intercepted(innermost(optimizer), apply_in_scope):
            yield

    def _masked(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer,
    ) -> list[Any]:
        return multiply(gradients, variables, self._factors(optimizer))

    def _apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        apply: Apply,
        gradients: Sequence[Any],
        variables: Any,
    ) -> None:
        """Stands in for the optimizer's `apply`."""
        variables = list(variables or self.trainable_variables)
        by = self._factors(optimizer)
        self._apply_masked(optimizer, by, apply, gradients, variables)

    def _apply_masked(
        self,
        optimizer: keras.optimizers.Optimizer,
        by: Factors,
        apply: Apply,
        gradients: Sequence[Any],
        variables: Sequence[Any],
    ) -> None:
        """Applies gradients, with the factors on the gradients or on what they do."""
        apply = finite_without_gradient(optimizer)(apply)
        if not suppresses_update(self._settings.suppress, optimizer):
            apply(multiply(gradients, variables, by), variables)
            return
        chosen = [variable for variable in variables if id(variable) in by]
        factors_of_chosen = [by[id(variable)] for variable in chosen]
        if self._scales_rates(optimizer, chosen):
            with scaled_steps(optimizer, chosen, factors_of_chosen):
                apply(gradients, variables)
            return
        if uses_average(optimizer):
            # The average is taken inside `apply`, before the step is scaled: what is
            # gone for good must not move there either.
            gradients = multiply(gradients, variables, where_not_zero(by))
        before = self._values(chosen)
        apply(gradients, variables)
        self._scale_steps(chosen, before, factors_of_chosen)

    def _scales_rates(
        self, optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]
    ) -> bool:
        """Whether learning rates are scaled, rather than what variables moved by.

        Where a step changes variables in place, that saves a copy of them. JAX makes
        new ones anyway, and rounds a step with a rate per channel otherwise than one
        with a single rate; on PyTorch Keras' optimizers step all variables at once.
        """
        return False

    def _values(self, variables: Sequence[Any]) -> list[Any]:
        """What variables hold now, whatever is assigned to them later."""
        return [keras.ops.copy(variable) for variable in variables]

    def _scale_steps(
        self, variables: Sequence[Any], before: Sequence[Any], by: Sequence[Any]
    ) -> None:
        """Scales what variables have moved by."""
        for variable, old, factor in zip(variables, before, by, strict=True):
            # Exact where the factor is 1, and where a filter was and stays zero.
            variable.assign(variable + (factor - 1.0) * (variable - old))
