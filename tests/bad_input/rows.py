"""Pieces of the table of `tests/test_bad_input.py`: rows, and right arguments."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import pgmpf_tf
from tests.training.networks import convnet, cross_entropy, images_and_labels

X, Y = images_and_labels(8)


class Bad:
    """A value that is refused.

    Args:
        value: the value.
        error: the error.
        beside: other arguments that make it wrong.
    """

    def __init__(self, value: Any, error: type[Exception], **beside: Any) -> None:
        self.value, self.error, self.beside = value, error, beside


def wrong_type(value: Any, **beside: Any) -> Bad:
    return Bad(value, TypeError, **beside)


def wrong_value(value: Any, **beside: Any) -> Bad:
    return Bad(value, ValueError, **beside)


class Subclassed(keras.Model):
    """A model that is not built."""


def compiled() -> keras.Model:
    model = convnet()
    model.compile("sgd", cross_entropy(), metrics=["accuracy"])
    return model


PLAIN = compiled()
WRAPPED = pgmpf_tf.wrap(compiled(), 0.5, epochs=4)
WRAPPED.compile("sgd", cross_entropy())
UNBUILT = Subclassed()
TEACHER = convnet("teacher")
TABLE = pgmpf_tf.Sensitivity(
    ("first",), (0.5,), np.array([[0.5]]), 0.9, "accuracy", True
)

PROFILE = pgmpf_tf.profile(PLAIN)

NO_MODEL = [wrong_type("net"), wrong_type(None), wrong_value(UNBUILT)]
NO_BOOL = [wrong_type("yes"), wrong_type(1), wrong_type(None)]
NO_FRACTION = [wrong_type("half"), wrong_type(True), wrong_value(1.5), wrong_value(-1)]
NO_PATTERNS = [wrong_type(3), wrong_type(None), wrong_type([3]), wrong_value("conv9*")]
NO_NAME = [wrong_type(3), wrong_type(None), wrong_value("best")]
NO_DATA = [wrong_type(None), wrong_type("train"), wrong_type(3)]
ONCE = [wrong_value(iter([(X, Y)]))]


@dataclasses.dataclass
class Target:
    """A callable with arguments that are right, and rows that are not.

    Attributes:
        call: what is called.
        right: arguments that it accepts.
        rows: for each argument values that it does not.
        unchecked: for arguments without a row, why that is.
    """

    call: Callable[..., Any]
    right: dict[str, Any]
    rows: dict[str, list[Bad]]
    unchecked: dict[str, str] = dataclasses.field(default_factory=dict)
