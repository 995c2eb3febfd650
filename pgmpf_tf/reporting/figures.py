"""The geometry of the page's figures: numbers in, coordinates and paths out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pgmpf_tf.reporting.timeline import times_returned

WIDTH, HEIGHT = 360, 200
"""Of a chart, in the units of its coordinates, which are about pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 350, 10, 172


@dataclass(frozen=True)
class Curve:
    """One series of a chart.

    Attributes:
        name: what the legend calls it.
        path: SVG path data.
        last: its last value, as text.
        end: coordinates of the last point.
    """

    name: str
    path: str
    last: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Curves over epochs.

    Attributes:
        title: what is shown.
        curves: at least one.
        x_ticks: coordinate and label.
        y_ticks: coordinate and label.
        starts: coordinates where a further call of `fit` began.
    """

    title: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    starts: tuple[float, ...]


def chart(
    title: str,
    series: Mapping[str, np.ndarray],
    starts: Sequence[int] = (),
    limits: tuple[float, float] | None = None,
) -> Chart | None:
    """Curves in one frame.

    Args:
        title: what is shown.
        series: float arrays `(epochs,)`; there is a gap where a value is not finite.
        starts: epochs that were over when a further call of `fit` began.
        limits: ends of the vertical axis; those of the values if None.

    Returns:
        The chart, or None if no value is finite.
    """
    series = {name: v for name, v in series.items() if np.isfinite(v).any()}
    if not series:
        return None
    low, high = limits or _limits(np.concatenate(list(series.values())))
    epochs = len(next(iter(series.values())))

    def x(epoch: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (epoch - 0.5) / epochs, 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low), 1)

    curves = []
    for name, values in series.items():
        points = [
            (x(i), y(v)) if np.isfinite(v) else None
            for i, v in enumerate(values.tolist(), start=1)
        ]
        last = int(np.flatnonzero(np.isfinite(values))[-1])
        end = x(last + 1), y(values[last].item())
        curves.append(Curve(name, _path(points), f"{values[last]:.4g}", end))
    whole = [int(t) for t in _ticks(0, epochs, 6) if t == int(t) and t >= 1]
    return Chart(
        title,
        tuple(curves),
        tuple((x(epoch), str(epoch)) for epoch in dict.fromkeys([1, *whole])),
        tuple((y(value), f"{value:.6g}") for value in _ticks(low, high, 5)),
        tuple(x(start + 0.5) for start in starts),
    )


def _limits(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    # What is never negative shall not seem to be.
    return (max(low - margin, 0.0) if low >= 0 else low - margin), high + margin


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers in [low, high], evenly spaced."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(f * power for f in (1, 2, 5, 10) if (high - low) <= most * f * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Straight lines, broken where a point is missing; a lone point is a dot."""
    text: list[str] = []
    pen_down = False
    for point in points:
        if point is not None:
            # Zero long, and visible by the round ends of the stroke.
            text.append(
                f"L{point[0]} {point[1]}" if pen_down else f"M{point[0]} {point[1]}h0"
            )
        pen_down = point is not None
    return "".join(text)


@dataclass(frozen=True)
class MaskImage:
    """The masks of one group over time.

    Attributes:
        group: its name.
        units: number of filters (or units of filters that go together).
        kept: how many are left at the end.
        times: number of masks, so the width of the image.
        steady: SVG path data of what is kept of filters that never came back, in
            units of one filter and one time. Rows are sorted: those that stay on top,
            then by how long they stayed.
        back_and_forth: the same of filters that came back.
        returned: from a number of times to the filters that came back that often.
        returned_count: how many came back at least once.
    """

    group: str
    units: int
    kept: int
    times: int
    steady: str
    back_and_forth: str
    returned: tuple[tuple[int, str], ...]
    returned_count: int

    @property
    def length(self) -> int:
        """How many characters it adds to the page."""
        texts = (text for _, text in self.returned)
        return len(self.steady) + len(self.back_and_forth) + sum(map(len, texts))


def mask_image(group: str, masks: np.ndarray) -> MaskImage:
    """Draws which filters were kept when.

    Args:
        group: the group's name.
        masks: bool array `(units, times)`.

    Returns:
        The image and its figures.
    """
    rows, heights = np.unique(masks, axis=0, return_counts=True)
    order = np.lexsort((-rows.sum(axis=1), ~rows[:, -1]))
    steady: list[str] = []
    back_and_forth: list[str] = []
    top = 0
    for row, height in zip(rows[order], heights[order].tolist(), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        path = back_and_forth if times_returned(row[None]).any() else steady
        for start, end in edges.reshape(-1, 2).tolist():
            path.append(f"M{start} {top}h{end - start}v{height}h{start - end}z")
        top += height
    returned = times_returned(masks)
    often = [int(times) for times in np.unique(returned) if times]
    return MaskImage(
        group=group,
        units=len(masks),
        kept=int(masks[:, -1].sum()),
        times=masks.shape[1],
        steady="".join(steady),
        back_and_forth="".join(back_and_forth),
        returned=tuple((n, _ranges(np.flatnonzero(returned == n))) for n in often),
        returned_count=int((returned > 0).sum()),
    )


def _ranges(numbers: np.ndarray) -> str:
    """Ascending whole numbers in short: 1, 4-6, 9."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(
        f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs
    )
