"""What a training loop of one's own calls in place of `fit`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras

from pgmpf_tf._checks import (
    check_integer,
    check_number,
    check_sequence,
    check_type,
)
from pgmpf_tf.training.backend import MaskedTrainer
from pgmpf_tf.training.progress import Progress


class OwnLoops(MaskedTrainer):
    """Mixin for a wrapped model: masks, gradients and steps without `fit`."""

    _progress: Progress

    def update_masks(
        self,
        epoch: int | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
        *,
        progress: float | None = None,
    ) -> dict[str, float]:
        """Moves the masks in a training loop of one's own; `fit` does it by itself.

        Either between epochs, as below, or before every step, which the default method
        is made for: `model.update_masks(progress=step / steps)`, with the number of the
        step and that of all steps, and once more with `progress=1.0` after the last.
        Nothing happens where no update is due.

        Example:
            >>> model = pgmpf_tf.wrap(model, epochs=10)
            >>> model.update_masks(-1, optimizer)
            >>> for epoch in range(10):
            ...     for step in ...:
            ...         model.apply_gradients(gradients, optimizer)
            ...     model.update_masks(epoch, optimizer)

        Args:
            epoch: the epoch that has just ended, from 0; -1 before the first one.
            progress: the part of the run that is done, in [0, 1], instead of `epoch`.
            optimizer: the optimizer in use; the compiled one if None. What it
                remembers of filters that are gone for good is erased.

        Returns:
            `pruning_rate`, `suppression` and `weight_mask` of the epoch.

        Raises:
            ValueError: if `epoch` is below -1, the number of epochs is not known (give
                `epochs=` to `wrap`), or weights are NaN or infinite; if not one of
                `epoch` and `progress` is given, or the method updates by epochs.
        """
        optimizer = self._given_or_own(optimizer)
        if (epoch is None) == (progress is None):
            raise ValueError(
                "`update_masks` takes one of `epoch` and `progress`. "
                f"Received: epoch={epoch}, progress={progress}"
            )
        if progress is None:
            return self._progress.update_at(
                check_integer("epoch", epoch, -1), optimizer
            )
        return self._progress.update_to(
            check_number("progress", progress, "[0, 1]"), optimizer
        )

    def mask_gradients(
        self,
        gradients: Sequence[Any],
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> list[Any]:
        """Multiplies gradients by M + (1 - M)(1 - lambda) b, channel by channel.

        An optimizer that divides by the gradient's magnitude, such as Adam, hardly
        takes smaller steps for it where lambda is below 1: `apply_gradients` slows a
        filter under every optimizer, as `fit` does.

        Args:
            gradients: one per variable of `trainable_variables`; None is passed on.
            optimizer: the optimizer in use, whose count of steps selects the draw b;
                the compiled one if None.

        Returns:
            The masked gradients.

        Raises:
            ValueError: if there is not one gradient per trainable variable, or there
                is no optimizer.
        """
        gradients, variables = self._one_each(gradients)
        optimizer = self._optimizer_in_use("mask_gradients", optimizer)
        return self._masked(gradients, variables, optimizer)

    def apply_gradients(
        self,
        gradients: Sequence[Any],
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Takes a step of an optimizer, masked as in `fit`: `suppress` counts.

        For a training loop of one's own, in place of `optimizer.apply`. In a jitted
        function of JAX it is `stateless_apply_gradients`.

        Args:
            gradients: one per variable of `trainable_variables`.
            optimizer: the optimizer in use; the compiled one if None.

        Raises:
            ValueError: if there is not one gradient per trainable variable, or there
                is no optimizer.
        """
        gradients, variables = self._one_each(gradients)
        optimizer = self._optimizer_in_use("apply_gradients", optimizer)
        # Not `optimizer.apply`, in whose place a training step has put a masked one.
        apply = functools.partial(type(optimizer).apply, optimizer)
        self._apply(optimizer, apply, gradients, variables)

    def stateless_apply_gradients(
        self,
        gradients: Sequence[Any],
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        optimizer_variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """`apply_gradients` as a function of a state, for a jitted step on JAX.

        In place of `optimizer.stateless_apply`, which Keras has for JAX.

        Example:
            >>> trainable, own = model.stateless_apply_gradients(
            ...     gradients, trainable, non_trainable, own, optimizer
            ... )

        Args:
            gradients: one per variable of `trainable_variables`.
            trainable_variables: a value for each of the model's `trainable_variables`.
            non_trainable_variables: a value for each of the model's
                `non_trainable_variables`, of which the masks are a part.
            optimizer_variables: a value for each variable of the optimizer.
            optimizer: the optimizer in use; the compiled one if None.

        Returns:
            The values of the trainable variables and of the optimizer's after the step.

        Raises:
            ValueError: if there is not one gradient or value per variable, or there
                is no optimizer.
        """
        gradients, variables = self._one_each(gradients)
        optimizer = self._optimizer_in_use("stateless_apply_gradients", optimizer)
        values = check_sequence(
            "trainable_variables", trainable_variables, "values of variables"
        )
        self._check_count("trainable_variables", variables, values)
        with self._masking(optimizer, non_trainable_variables, optimizer_variables):
            return optimizer.stateless_apply(optimizer_variables, gradients, values)

    def _one_each(
        self, gradients: Sequence[Any]
    ) -> tuple[list[Any], list[keras.Variable]]:
        gradients = check_sequence("gradients", gradients, "tensors or None")
        variables = self.trainable_variables
        if len(gradients) != len(variables):
            raise ValueError(
                f"`gradients` must hold one gradient for each of the {len(variables)} "
                f"trainable variables. Received: {len(gradients)} gradients"
            )
        return list(gradients), variables

    def _given_or_own(self, optimizer: Any) -> keras.optimizers.Optimizer | None:
        allowed = (keras.optimizers.Optimizer, type(None))
        check_type("optimizer", optimizer, allowed, "a Keras optimizer or None")
        return optimizer or getattr(self, "optimizer", None)

    def _optimizer_in_use(
        self, caller: str, optimizer: keras.optimizers.Optimizer | None
    ) -> keras.optimizers.Optimizer:
        optimizer = self._given_or_own(optimizer)
        if optimizer is None:
            raise ValueError(
                f"`{caller}` needs the optimizer, whose count of steps selects "
                "the random draw: pass `optimizer=`, or compile the model. "
                "Received: optimizer=None"
            )
        return optimizer

    def stateless_mask_gradients(
        self,
        gradients: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        optimizer_variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> list[Any]:
        """`mask_gradients` as a function of a state, for a jitted step on JAX.

        For an optimizer that is not of Keras; with one of Keras'
        `stateless_apply_gradients` is shorter, and slows filters under Adam as well.

        Args:
            gradients: one per variable of `trainable_variables`; None is passed on.
            non_trainable_variables: a value for each of the model's
                `non_trainable_variables`, of which the masks are a part.
            optimizer_variables: a value for each variable of the optimizer.
            optimizer: the optimizer in use; the compiled one if None.

        Returns:
            The masked gradients.

        Raises:
            ValueError: if there is not one gradient or value per variable, or there
                is no optimizer.
        """
        optimizer = self._optimizer_in_use("stateless_mask_gradients", optimizer)
        with self._values_of_state(
            optimizer, non_trainable_variables, optimizer_variables
        ):
            return self.mask_gradients(gradients, optimizer)
