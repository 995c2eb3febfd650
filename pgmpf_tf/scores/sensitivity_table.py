"""`Sensitivity`: what `sensitivity` measured, as numbers, a table and a heat map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgmpf_tf._checks import check_path
from pgmpf_tf._files import staged


@dataclass(frozen=True)
class Sensitivity:
    """A metric with one group of filters pruned at a time, nothing retrained.

    Attributes:
        groups: names of the groups, in graph order.
        rates: the fractions of filters removed.
        values: the metric, float array of shape `(groups, rates)`.
        baseline: the metric with nothing pruned.
        metric: the metric's name.
        higher_is_better: whether larger values of the metric are better.
    """

    groups: tuple[str, ...]
    rates: tuple[float, ...]
    values: np.ndarray
    baseline: float
    metric: str
    higher_is_better: bool

    @property
    def drop(self) -> np.ndarray:
        """How much worse than the baseline; below 0 where pruning makes it better.

        In units of the metric, shape `(groups, rates)`; infinite where the metric is
        not a number.
        """
        drop = self.values - self.baseline
        drop = -drop if self.higher_is_better else drop
        return np.where(np.isnan(drop), np.inf, drop)

    def __rich__(self) -> Table:
        """A row per group, a column per rate; the redder a cell, the worse."""
        table = Table(
            title=f"{self.metric}, one group pruned (dense {self.baseline:.4g})"
        )
        table.add_column("group", overflow="fold")
        for rate in self.rates:
            table.add_column(f"{rate:.0%}", justify="right")
        shades = self.shades
        for group, values, row in zip(self.groups, self.values, shades, strict=True):
            cells = (
                Text(f"{value:.4g}", style=f"black on {_color(shade)}")
                for value, shade in zip(values, row, strict=True)
            )
            table.add_row(group, *cells)
        return table

    def __str__(self) -> str:
        """The table as plain text."""
        console = Console(width=120)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def save_heatmap(self, path: str | os.PathLike[str]) -> Path:
        """Draws groups and rates as a heat map of the drop.

        Args:
            path: an image file that matplotlib can write, such as a `.png`.

        Returns:
            The path.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: the folder cannot be written, or the format is not known.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'The heat map needs matplotlib: pip install "pgmpf_tf[plots]"'
            ) from error
        path = check_path("path", path)
        figure = Figure(
            figsize=(2.5 + 0.8 * len(self.rates), 1.2 + 0.3 * len(self.groups)),
            layout="constrained",
        )
        axes = figure.add_subplot()
        image = axes.imshow(self.drop, cmap="YlOrRd", aspect="auto")
        axes.set_xticks(range(len(self.rates)), [f"{rate:.0%}" for rate in self.rates])
        axes.set_yticks(range(len(self.groups)), self.groups)
        axes.set_xlabel("filters removed")
        for (row, column), shade in np.ndenumerate(self.shades):
            axes.text(
                column,
                row,
                f"{self.values[row, column]:.3g}",
                ha="center",
                va="center",
                color="white" if shade > 0.6 else "black",
            )
        axes.set_title(f"{self.metric} (dense: {self.baseline:.3g})")
        figure.colorbar(image, label=f"worse by ({self.metric})")
        with staged(path.parent, "path") as folder:
            figure.savefig(folder / path.name, dpi=150)
        return path

    @property
    def shades(self) -> np.ndarray:
        """The drop in [0, 1]: 0 no worse than the baseline, 1 the worst of all."""
        drop = self.drop
        finite = drop[np.isfinite(drop)]
        largest = max(finite.max(initial=0.0), np.finfo(float).tiny)
        return np.clip(drop / largest, 0.0, 1.0)


def _color(shade: float) -> str:
    """From pale green over yellow to red, light enough for black text."""
    red = 190 + round(65 * min(2 * shade, 1.0))
    green = 235 - round(115 * max(2 * shade - 1.0, 0.0))
    return f"rgb({red},{green},130)"
