"""What the caller of `export` asks for, checked before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pgmpf_tf.exporting import formats, runners
from pgmpf_tf.exporting.interface import Arrays, Interface, Runner, is_legacy

LOADERS: dict[str, Callable[[Path], Runner]] = {
    "saved_model": runners.load_saved_model,
    "tflite": runners.load_tflite,
    "keras": runners.load_keras,
}
PRECISIONS = ("float16", "dynamic", "int8")
TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
AGREEMENT = 0.9


@dataclass(frozen=True)
class Request:
    """The options of `export`; see there."""

    formats: tuple[str, ...]
    quantize: str | None
    integer_io: bool
    tolerance: float | None
    min_agreement: float | None

    def __post_init__(self) -> None:
        """Raises ValueError for options that are not allowed, or not together."""
        if not self.formats or set(self.formats) - set(LOADERS):
            raise ValueError(
                f"formats must be one or more of {sorted(LOADERS)}. Received: "
                f"formats={self.formats}"
            )
        if self.quantize is not None and self.quantize not in PRECISIONS:
            raise ValueError(
                f"quantize must be None or one of {PRECISIONS}. Received: "
                f"quantize={self.quantize!r}"
            )
        if self.quantize is not None and "tflite" not in self.formats:
            raise ValueError(
                "quantize is for the format 'tflite', which formats must name. "
                f"Received: quantize={self.quantize!r}, formats={self.formats}"
            )
        if self.integer_io and self.quantize != "int8":
            raise ValueError(
                "integer_io must be False unless quantize='int8'. Received: "
                f"integer_io={self.integer_io}, quantize={self.quantize!r}"
            )
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(
                f"tolerance must be positive. Received: tolerance={self.tolerance}"
            )
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise ValueError(
                "min_agreement must be a fraction from 0 to 1. Received: "
                f"min_agreement={self.min_agreement}"
            )

    def check_model(self, interface: Interface, calibration: Arrays | None) -> None:
        """Raises ValueError where the model, its data and the options do not fit."""
        legacy = is_legacy(interface.model)
        if legacy and "keras" in self.formats:
            raise ValueError(
                "formats must not have 'keras' for a tf_keras model. Received: "
                f"formats={self.formats}"
            )
        if self.quantize == "int8" and not legacy and calibration is None:
            raise ValueError(
                "representative_data must be given for quantize='int8': it sets the "
                "ranges of the activations. Received: representative_data=None"
            )

    def precision(self, format: str) -> str:
        """The precision of the artifact of a format."""
        return (self.quantize if format == "tflite" else None) or "float32"

    def name(self, format: str) -> str:
        """The name of the artifact of a format."""
        if format == "saved_model":
            return format
        suffix = f"_{self.quantize}" if format == "tflite" and self.quantize else ""
        return f"model{suffix}.{format}"

    def bounds(self, format: str, given: bool) -> tuple[float | None, float | None]:
        """The tolerance and the least agreement; None for no bound.

        Whole agreement is asked for by default on given samples only: on random ones
        the classes of a good file may differ.
        """
        precision = self.precision(format)
        tolerance = self.tolerance or TOLERANCES.get(precision)
        if precision in TOLERANCES:
            return tolerance, self.min_agreement
        default = AGREEMENT if given else None
        agreement = default if self.min_agreement is None else self.min_agreement
        return tolerance, agreement

    def write(
        self,
        format: str,
        interface: Interface,
        path: Path,
        calibration: Arrays | None,
    ) -> None:
        """Writes the artifact of a format."""
        if format == "keras":
            formats.write_keras(interface, path)
        elif format == "saved_model":
            formats.write_saved_model(interface, path)
        else:
            formats.write_tflite(
                interface,
                path,
                quantize=self.quantize,
                calibration=calibration,
                integer_io=self.integer_io,
            )
