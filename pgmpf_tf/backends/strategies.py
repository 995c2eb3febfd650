"""The checks of distribution strategies, where there are none: off TensorFlow."""

from __future__ import annotations

import contextlib
from typing import Any

import keras


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which a model that shares the layers of `model` must be made."""
    return contextlib.nullcontext()


def check_strategy(model: keras.Model) -> None:
    """Nothing to check: `keras.distribution` is the same for the whole process."""


def check_same_strategy(argument: str, model: keras.Model, other: keras.Model) -> None:
    """Nothing to check: `keras.distribution` is the same for the whole process."""
