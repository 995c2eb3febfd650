"""What an export wrote, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table


class VerificationError(RuntimeError):
    """An artifact does not do what the model does; it was not kept."""


@dataclass(frozen=True)
class Artifact:
    """One file (or folder, for a SavedModel) that was written and verified.

    Attributes:
        format: `"saved_model"`, `"tflite"` or `"keras"`.
        precision: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
        path: where it is.
        bytes: its size; of all files in the folder for a SavedModel.
        max_deviation: the largest deviation from the Keras model over all samples and
            entries of an output, divided by the largest magnitude in that output.
        mean_deviation: the mean deviation, divided by the same.
        top1_agreement: the fraction of samples (or positions) for which the largest
            entry along the last axis is the same, for the output where it is least;
            None if no output has classes.
        latency_ms: median milliseconds for one batch of the fixed batch size, or of 1:
            a `.tflite` file on one thread, a SavedModel on TensorFlow's own; None for
            a `.keras` file.
    """

    format: str
    precision: str
    path: Path
    bytes: int
    max_deviation: float
    mean_deviation: float
    top1_agreement: float | None
    latency_ms: float | None


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote; rich prints it as a table.

    Attributes:
        artifacts: one entry per format, in the order asked for.
        samples: how many samples they were verified on.
        random: whether those were random, for want of data.
    """

    artifacts: tuple[Artifact, ...]
    samples: int
    random: bool

    def __getitem__(self, format: str) -> Artifact:
        """The artifact of a format."""
        for artifact in self.artifacts:
            if artifact.format == format:
                return artifact
        raise KeyError(format)

    def __rich__(self) -> Table:
        """A row per artifact."""
        kind = "random" if self.random else "given"
        table = Table(
            title=str(self.artifacts[0].path.parent),
            caption=f"held against the model on {self.samples} {kind} samples",
            box=SIMPLE,
        )
        # Where it is narrow, names are folded: half a number would be a wrong one.
        table.add_column("artifact", overflow="fold")
        table.add_column("precision", no_wrap=True)
        for heading in ("bytes", "max dev.", "mean", "top-1", "latency"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.artifacts:
            agreement, latency = row.top1_agreement, row.latency_ms
            table.add_row(
                row.path.name,
                row.precision,
                f"{row.bytes:,}",
                f"{row.max_deviation:.1e}",
                f"{row.mean_deviation:.1e}",
                "-" if agreement is None else f"{agreement:.1%}",
                "-" if latency is None else f"{latency:.3g} ms",
            )
        return table
