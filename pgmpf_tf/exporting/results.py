"""What an export wrote, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

_SHOWN = 3
"""Operations that add most to the error of a file."""


class VerificationError(RuntimeError):
    """An artifact does not do what the model does; it was not kept."""


@dataclass(frozen=True)
class OutputError:
    """How far one output of an artifact is from the model's, over all samples.

    Attributes:
        name: the output's name.
        max_deviation: the largest deviation of an entry, divided by the largest
            magnitude in the model's output.
        mean_deviation: the mean deviation, divided by the same.
        relative_error: the root mean square of the deviations, divided by the standard
            deviation of the model's output.
        top1_agreement: the fraction of samples (or positions) for which the largest
            entry along the last axis is the same; None if that axis has one entry.
        correlation: Pearson's, of all entries; None where one side is constant.
    """

    name: str
    max_deviation: float
    mean_deviation: float
    relative_error: float
    top1_agreement: float | None
    correlation: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON can hold them."""
        return asdict(self)


@dataclass(frozen=True)
class LayerError:
    """How far the output of one operation of a quantized file is off.

    Attributes:
        name: the layer's name, as far as the file has kept it.
        operation: its kind, `"CONV_2D"` say.
        relative_error: the root mean square of the deviations from what the same
            operation gives in float32, divided by the standard deviation of that.
        added: how much of it is not in its inputs already.
    """

    name: str
    operation: str
    relative_error: float
    added: float

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON can hold them."""
        return asdict(self)


@dataclass(frozen=True)
class Artifact:
    """One file (or folder: a SavedModel, OpenVINO's) that was written and verified.

    Attributes:
        format: `"saved_model"`, `"tflite"`, or another of the formats.
        precision: `"float32"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`.
        path: where it is.
        bytes: its size; of all files in it for a folder.
        outputs: how far each output is from the model's.
        latency_ms: median milliseconds for one batch of the fixed batch size, or of 1,
            on one thread (a SavedModel: on as many as TensorFlow takes); None for a
            `.keras` file.
        layers: of a file of integers, what its operations add to the error, the one
            that adds most first; empty for others.
    """

    format: str
    precision: str
    path: Path
    bytes: int
    outputs: tuple[OutputError, ...]
    latency_ms: float | None
    layers: tuple[LayerError, ...] = ()

    @property
    def max_deviation(self) -> float:
        """That of the output where it is largest."""
        return _largest(error.max_deviation for error in self.outputs)

    @property
    def mean_deviation(self) -> float:
        """That of the output where it is largest."""
        return _largest(error.mean_deviation for error in self.outputs)

    @property
    def relative_error(self) -> float:
        """That of the output where it is largest."""
        return _largest(error.relative_error for error in self.outputs)

    @property
    def top1_agreement(self) -> float | None:
        """That of the output where it is least; None if no output has classes."""
        found = [error.top1_agreement for error in self.outputs]
        return min((each for each in found if each is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON can hold them."""
        return asdict(self) | {"path": str(self.path)}


def _largest(numbers: Iterator[float]) -> float:
    """The largest number; NaN if one is."""
    found = list(numbers)
    return next((each for each in found if each != each), max(found))


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote; rich prints it as a table.

    Attributes:
        artifacts: one entry per format, in the order asked for.
        samples: how many samples they were verified on.
        source: what these were: `"given"`, `"held-out"` (given, and not used to set
            ranges), `"calibration"` (too few to hold any out) or `"random"`.
    """

    artifacts: tuple[Artifact, ...]
    samples: int
    source: str

    @property
    def random(self) -> bool:
        """Whether the samples were random, for want of data."""
        return self.source == "random"

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON can hold them."""
        return {
            "samples": self.samples,
            "source": self.source,
            "artifacts": [artifact.to_dict() for artifact in self.artifacts],
        }

    def __getitem__(self, format: str) -> Artifact:
        """The artifact of a format."""
        for artifact in self.artifacts:
            if artifact.format == format:
                return artifact
        raise KeyError(format)

    def __rich__(self) -> Table:
        """A row per artifact, and below it one for each output if there are several.

        And for the operations that add most to the error of integers.
        """
        table = Table(
            title=str(self.artifacts[0].path.parent),
            caption=f"held against the model on {self.samples} {self.source} samples",
            box=SIMPLE,
        )
        # Where it is narrow, names are folded: half a number would be a wrong one.
        table.add_column("artifact", overflow="fold")
        table.add_column("precision", no_wrap=True)
        for heading in ("bytes", "max dev.", "error", "top-1", "latency"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.artifacts:
            latency = "-" if row.latency_ms is None else f"{row.latency_ms:.3g} ms"
            start = row.path.name, row.precision, f"{row.bytes:,}"
            table.add_row(*start, *_errors(row), latency)
            for error in row.outputs if len(row.outputs) > 1 else ():
                table.add_row(f"  {error.name}", "", "", *_errors(error), "")
            for layer in row.layers[:_SHOWN]:
                added = f"+{layer.added:.1e}"
                table.add_row(f"  in {layer.name}", layer.operation, "", "", added)
        return table


def _errors(row: Artifact | OutputError) -> tuple[str, str, str]:
    agreement = row.top1_agreement
    return (
        f"{row.max_deviation:.1e}",
        f"{row.relative_error:.1e}",
        "-" if agreement is None else f"{agreement:.1%}",
    )
