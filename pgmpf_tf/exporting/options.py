"""What the caller of `export` asks for, checked before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from pgmpf_tf._checks import (
    check_bool,
    check_choice,
    check_integer,
    check_number,
    check_strings,
    received,
)
from pgmpf_tf.exporting.formats.base import Format
from pgmpf_tf.exporting.formats.registry import FORMATS
from pgmpf_tf.exporting.signature import Signature, is_legacy
from pgmpf_tf.exporting.verification import Bounds

TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
AGREEMENT = 0.9
RELATIVE_ERROR = 0.25
"""Of outputs without classes, which a signal-to-noise ratio of 12 dB has."""

CALIBRATED = ("int8", "int16x8")
"""Precisions of which the activations' ranges are measured."""


def precisions() -> tuple[str, ...]:
    """All that `quantize` may be."""
    found = (p for format in FORMATS.values() for p in format.precisions)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Options:
    """The options of `export`; see there."""

    formats: tuple[Format, ...]
    quantize: str | None
    batch_size: int | None
    integer_io: bool
    tolerance: float | None
    min_agreement: float | None

    @classmethod
    def of(
        cls,
        formats: Any,
        quantize: Any,
        batch_size: Any,
        integer_io: Any,
        tolerance: Any,
        min_agreement: Any,
    ) -> Options:
        """The options from what the caller passed.

        Raises:
            TypeError: an argument is of another type.
            ValueError: it is not allowed, or not together with another.
            ImportError: a format's packages are not installed.
        """
        chosen = _formats(formats)
        if quantize is not None:
            check_choice("quantize", quantize, precisions())
            able = [f.name for f in FORMATS.values() if quantize in f.precisions]
            if not any(quantize in format.precisions for format in chosen):
                raise ValueError(
                    f"`quantize` must be None unless `formats` has {_either(able)}, "
                    f"which can be {quantize}. {received('quantize', quantize)}, "
                    f"formats={formats!r}"
                )
        if batch_size is not None:
            batch_size = check_integer("batch_size", batch_size, 1)
        integer_io = check_bool("integer_io", integer_io)
        if integer_io and quantize not in CALIBRATED:
            raise ValueError(
                f"`integer_io` must be False unless `quantize` is {_either(CALIBRATED)}"
                f". {received('integer_io', integer_io)}, quantize={quantize!r}"
            )
        if tolerance is not None:
            tolerance = check_number("tolerance", tolerance, "(0, inf)")
        if min_agreement is not None:
            meaning = "a fraction of the samples"
            check_number("min_agreement", min_agreement, "[0, 1]", meaning)
        return cls(chosen, quantize, batch_size, integer_io, tolerance, min_agreement)

    def needs_calibration(self, model: Any) -> bool:
        """Whether samples must set the ranges of the activations."""
        return self.quantize in CALIBRATED and not is_legacy(model)

    def check_model(self, signature: Signature) -> None:
        """Raises ValueError for what a `tf_keras` model cannot be written as."""
        if not is_legacy(signature.model):
            return
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "A tf_keras model is exported on Keras' TensorFlow backend: set the "
                "environment variable KERAS_BACKEND to tensorflow before keras is "
                f"imported. Received: KERAS_BACKEND={keras.backend.backend()!r}"
            )
        wrong = [format.name for format in self.formats if not format.legacy]
        if wrong:
            able = [f.name for f in FORMATS.values() if f.legacy]
            raise ValueError(
                f"`formats` must be among {_either(able)} for a tf_keras model. "
                f"{received('formats', wrong)}"
            )
        if self.quantize == "int16x8":
            raise ValueError(
                "`quantize` must not be 'int16x8' for a tf_keras model, whose ranges "
                f"are those of int8. {received('quantize', self.quantize)}"
            )

    def precision(self, format: Format) -> str:
        """The precision of the artifact of a format."""
        quantized = self.quantize is not None and self.quantize in format.precisions
        return str(self.quantize) if quantized else "float32"

    def bounds(self, format: Format, given: bool) -> Bounds:
        """How far the artifact of a format may be from the model.

        By default, agreement is asked for on given samples only: on random ones the
        classes of a good file may differ.
        """
        precision = self.precision(format)
        if precision in TOLERANCES:
            tolerance = self.tolerance or TOLERANCES[precision]
            return Bounds(tolerance, self.min_agreement, None)
        agreement = AGREEMENT if given else None
        if self.min_agreement is not None:
            agreement = self.min_agreement
        relative = RELATIVE_ERROR if given and self.tolerance is None else None
        return Bounds(self.tolerance, agreement, relative)


def _formats(formats: Any) -> tuple[Format, ...]:
    names = check_strings("formats", formats, "names of formats")
    if not names or set(names) - set(FORMATS):
        raise ValueError(
            f"`formats` must be one or more of {', '.join(map(repr, FORMATS))}. "
            f"{received('formats', formats)}"
        )
    chosen = tuple(FORMATS[name] for name in dict.fromkeys(names))
    for format in chosen:
        format.check_installed()
    return chosen


def _either(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))
