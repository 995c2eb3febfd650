"""The first box of the page: what the small network is worth, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich import filesize

from pgmpf_tf.exporting.results import Artifact, ExportReport
from pgmpf_tf.reporting.comparison import Comparison
from pgmpf_tf.reporting.timeline import Timeline


@dataclass(frozen=True)
class Card:
    """One number.

    Attributes:
        name: what it is.
        number: as text.
        note: what to hold it against.
    """

    name: str
    number: str
    note: str


def cards(
    comparison: Comparison,
    times: Timeline,
    exports: Sequence[tuple[str, ExportReport]],
) -> tuple[Card, ...]:
    """Agreement with the dense network, metrics in validation, and the file."""
    return (*_agreement(comparison), *_metrics(times), *_file(exports))


def _agreement(comparison: Comparison) -> Iterator[Card]:
    note = f"on {comparison.samples} samples"
    several = len(comparison.outputs) > 1
    for error in comparison.outputs:
        of = f" of {error.name}" if several else ""
        if error.top1_agreement is not None:
            name = f"Same top class{of} as the dense network"
            yield Card(name, f"{error.top1_agreement:.1%}", note)
        else:
            name = f"Error{of} against the dense network"
            yield Card(name, f"{error.relative_error:.1%}", f"of its variation, {note}")


def _metrics(times: Timeline) -> Iterator[Card]:
    for name, values in times.series.items():
        if not name.startswith("val_") or name == "val_loss":
            continue
        known = np.flatnonzero(np.isfinite(values))
        if not known.size:
            continue
        note = "after the last epoch"
        dense = known[known < times.masks_from] if times.masks else known[:0]
        if dense.size:
            note += f"; {values[dense[-1]]:.4g} before pruning"
        yield Card(name, f"{values[known[-1]]:.4g}", note)


def _file(exports: Sequence[tuple[str, ExportReport]]) -> Iterator[Card]:
    """Size and latency of the last network's file, beside the first network's."""
    small = _deployed(exports[-1][1]) if exports else None
    if small is None:
        return
    dense = None
    if len(exports) > 1:
        same = (
            each
            for each in exports[0][1].artifacts
            if (each.format, each.precision) == (small.format, small.precision)
        )
        dense = next(same, None)
    size = f"of {filesize.decimal(dense.bytes)}, " if dense else ""
    note = f"{size}{small.precision}"
    yield Card(small.path.name, filesize.decimal(small.bytes), note)
    if small.latency_ms is not None:
        before = dense.latency_ms if dense else None
        note = f"of {before:.3g} ms" if before else "for one batch"
        yield Card("Latency", f"{small.latency_ms:.3g} ms", note)


def _deployed(report: ExportReport) -> Artifact | None:
    """The `.tflite` file, or whatever else there is."""
    ranked = sorted(report.artifacts, key=lambda each: each.format != "tflite")
    return ranked[0] if ranked else None
