"""What `prune` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from rich.console import Console, ConsoleOptions, RenderResult

from pgmpf_tf.exporting.results import ExportReport, OutputError
from pgmpf_tf.reporting.comparison import Comparison, describe


@dataclass(frozen=True)
class PruningResult:
    """A small network, its files, and how far it is from the dense one.

    Attributes:
        model: the small network.
        comparison: both networks' costs, and the errors of the small one's outputs on
            held-out samples.
        before_mending: those errors right after pruning.
        exports: what was exported of the dense and the small network, by these names.
        directory: where `small.keras`, the exported files and `report.html` are.
        notes: what was found out or decided on the way, in words.
        seconds: what each step took, by its name, in this run.
    """

    model: keras.Model
    comparison: Comparison
    before_mending: tuple[OutputError, ...]
    exports: Mapping[str, ExportReport]
    directory: Path
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """What a user wants to know first."""
        dense, small = self.comparison.dense, self.comparison.small
        yield (
            f"MACs {small.macs:,} of {dense.macs:,} "
            f"({-self.comparison.macs_removed:+.1%}), parameters {small.params:,} of "
            f"{dense.params:,} ({-self.comparison.params_removed:+.1%})"
        )
        before = {error.name: error for error in self.before_mending}
        for error in self.comparison.outputs:
            yield (
                f"{error.name} on {self.comparison.samples} held-out samples: "
                f"{describe(error)}\n  before mending: {describe(before[error.name])}"
            )
        yield from self.exports.values()
        for note in self.notes:
            yield f"- {note}"
        yield f"report: {self.directory / 'report.html'}"

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON can hold them."""
        comparison = self.comparison
        return {
            "macs": {"dense": comparison.dense.macs, "small": comparison.small.macs},
            "params": {
                "dense": comparison.dense.params,
                "small": comparison.small.params,
            },
            "held_out_samples": comparison.samples,
            "outputs": [error.to_dict() for error in comparison.outputs],
            "outputs_before_mending": [e.to_dict() for e in self.before_mending],
            "exports": {name: each.to_dict() for name, each in self.exports.items()},
            "directory": str(self.directory),
            "notes": list(self.notes),
            "seconds": dict(self.seconds),
        }
