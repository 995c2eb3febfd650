"""What the library asks of a backend; one small file answers for each."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras


class Backend(abc.ABC):
    """All that differs by Keras backend, apart from the training step.

    What most of them have in common is written here: no branches in a step, and no
    distribution strategies (`keras.distribution` is the same for the whole process).
    """

    @abc.abstractmethod
    def compiled(
        self, function: Callable[..., Any], variables: Sequence[keras.Variable]
    ) -> Callable[..., Any]:
        """A function of arrays that is compiled, where it can be.

        Args:
            function: takes and returns nested structures of arrays, with None where
                there is nothing. What it assigns to variables, itself alone sees.
            variables: all variables that it reads. Another may be a constant to it.

        Returns:
            The function, which reads the variables as they are when it is called.
        """

    @abc.abstractmethod
    def gradients(
        self, loss: Callable[[], Any], variables: Sequence[keras.Variable]
    ) -> list[Any]:
        """The gradients of a number, inside a `compiled` function.

        Args:
            loss: gives the number.
            variables: to differentiate by, each only once.

        Returns:
            One tensor per variable, zeros where the number does not depend on it.
        """

    @abc.abstractmethod
    def has_several_workers(self, model: keras.Model) -> bool:
        """Whether other processes train the same model on other data."""

    def assign_if(
        self,
        condition: Any,
        variables: Sequence[keras.Variable],
        values: Callable[[], Sequence[Any]],
    ) -> None:
        """Assigns to variables if a condition holds that is known in the step only.

        Args:
            condition: a scalar tensor of truth values.
            variables: the variables.
            values: gives a tensor for each. Where steps have branches, it is not
                computed if the condition is false.
        """
        for variable, value in zip(variables, values(), strict=True):
            now = keras.ops.copy(variable)
            variable.assign(keras.ops.where(condition, value, now))

    def strategy_scope(
        self, model: keras.Model
    ) -> contextlib.AbstractContextManager[Any]:
        """The scope in which a model that shares the layers of `model` must be made.

        Raises:
            ValueError: if the caller stands in the scope of another strategy.
        """
        return contextlib.nullcontext()

    # The two below have nothing to check where there are no strategies.
    def check_strategy(self, model: keras.Model) -> None:  # noqa: B027
        """Raises ValueError if the optimizer was made under another strategy."""

    def check_same_strategy(  # noqa: B027
        self, argument: str, model: keras.Model, other: keras.Model
    ) -> None:
        """Raises ValueError if a model was made under another strategy than `other`."""
