"""What a part of a network takes at any width, told by the widths that were measured.

Kernels compute tiles of output channels, so that time is a staircase of the width. And
what is a multiple of a tile is another matter than what is not: the last tile is masked
then, and rows begin in the middle of a line of the cache. In tables of a MobileNetV2
(XNNPACK) a depthwise 3x3 takes half as long again for 65 channels as for 64, and longer
than for 80. Where kernels take two tiles at once, odd and even numbers of tiles differ,
too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# By this factor better has to tell what was measured who takes more into account.
_CONVINCING = 1.1
# Errors below this one are none.
_EXACT = 1e-4
# Of fewer widths none is left out to see how well the others tell it.
_FEW = 6


class Point(NamedTuple):
    """What was measured at some width.

    Attributes:
        width_in: channels that are read.
        width_out: channels that are made.
        milliseconds: the time.
        inside: channels that neither tells of, such as heads of attention.
    """

    width_in: float
    width_out: float
    milliseconds: float
    inside: float = 0.0


@dataclass(frozen=True)
class Stairs:
    """How time goes with the number of output channels.

    Attributes:
        step: the channels of a tile; 1 if time goes evenly.
        kinds: how many kinds of widths there are. One: all are alike. Two: multiples
            of a tile, and the others. Four: each of these with an odd or an even number
            of whole tiles.
    """

    step: int
    kinds: int = 1

    def time(self, width: float, levels: Mapping[float, float]) -> float:
        """The time at a width.

        Args:
            width: of the output.
            levels: the times at some widths. Those of the width's kind tell it; if
                they are too few, those that are as well or badly aligned; or all.
        """
        place = self._place(width)
        for kinds in (self.kinds, min(self.kinds, 2), 1):
            known: dict[float, list[float]] = {}
            for other, time in levels.items():
                if self._kind(other, kinds) == self._kind(width, kinds):
                    known.setdefault(self._place(other), []).append(time)
            if len(known) > 1 or place in known:
                break
        places = sorted(known)
        return line(place, places, [float(np.mean(known[at])) for at in places])

    def _place(self, width: float) -> float:
        return width if self.step == 1 else math.ceil(width / self.step)

    def _kind(self, width: float, kinds: int) -> tuple[bool, bool]:
        odd = kinds > 2 and width % (2 * self.step) >= self.step
        return odd, kinds > 1 and width % self.step != 0

    def error(self, tables: Sequence[Mapping[float, float]]) -> float:
        """How far each of some times is, relatively, from what the others tell.

        Args:
            tables: the times at some widths, each beside another number of inputs.
        """
        errors = []
        for levels in tables:
            for width, time in levels.items():
                others = {at: other for at, other in levels.items() if at != width}
                if time > 0.0:  # it is not where a line has gone down to the end
                    errors.append(abs(self.time(width, others) / time - 1))
        knows = 0 if self.step == 1 else self.kinds.bit_length()
        return (float(np.mean(errors)) + _EXACT) * _CONVINCING**knows


EVEN = Stairs(1)
STAIRS = (EVEN, *(Stairs(step, kinds) for kinds in (1, 2, 4) for step in (8, 16, 32)))
"""How time may go with the width."""

STEPS = tuple(sorted({stairs.step for stairs in STAIRS} | {64}))
"""The channels of a tile that a kernel may have."""


@dataclass(frozen=True)
class Times:
    """The times of one family of segments, measured at some widths.

    Attributes:
        points: what was measured.
    """

    points: tuple[Point, ...]

    @functools.cached_property
    def stairs(self) -> Stairs:
        """How time goes with the width: as it tells each width best by the others."""
        if len(self._levels) < _FEW:
            return EVEN
        some = np.quantile([point.width_in for point in self.points], (0, 0.5, 1))
        tables = [self._levels_at(float(width), 1) for width in some]
        return min(STAIRS, key=lambda stairs: stairs.error(tables))

    @functools.cached_property
    def _inside(self) -> dict[float, Times]:
        """The times of each number of channels inside."""
        found: dict[float, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.inside, []).append(point)
        if len(found) == 1:
            return dict.fromkeys(found, self)
        return {inside: Times(tuple(found[inside])) for inside in sorted(found)}

    @functools.cached_property
    def _levels(self) -> dict[float, list[tuple[float, float]]]:
        """For each number of output channels, numbers of input channels and times."""
        levels: dict[float, list[tuple[float, float]]] = {}
        for point in sorted(self.points):
            pair = point.width_in, point.milliseconds
            levels.setdefault(point.width_out, []).append(pair)
        return dict(sorted(levels.items()))

    def _levels_at(self, width_in: float, input_step: int) -> dict[float, float]:
        """For each number of output channels, the time at a number of input ones.

        Where that was measured at one number of input channels only, the nearest width
        that was measured at several tells how time goes with them.
        """
        several = [out for out, found in self._levels.items() if len(found) > 1]
        times = {}
        for out, found in self._levels.items():
            times[out] = _at(width_in, found, input_step)
            there = found[0][0]
            if len(found) == 1 and there != width_in and several:
                nearest = self._levels[min(several, key=lambda at: abs(at - out))]
                known = _at(there, nearest, input_step)
                if known > 0.0:
                    times[out] *= _at(width_in, nearest, input_step) / known
        return times

    def at(
        self,
        width_in: float,
        width_out: float,
        inside: float = 0.0,
        input_step: int = 1,
    ) -> float:
        """Milliseconds at a width; exact where that was measured.

        Args:
            width_in: the number of input channels.
            width_out: the number of output channels.
            inside: the number of channels that these do not tell of.
            input_step: of what number of input channels a multiple is another matter
                than what is none: the one does not tell the time of the other.
        """
        if not self.points:
            return 0.0
        if len(self._inside) > 1:
            known = {
                number: times.at(width_in, width_out, input_step=input_step)
                for number, times in self._inside.items()
            }
            return line(inside, [*known], [*known.values()])
        levels = self._levels_at(width_in, input_step)
        if width_out in levels:
            return levels[width_out]
        return self.stairs.time(width_out, levels)


def _at(width: float, found: Sequence[tuple[float, float]], step: int) -> float:
    """The time at a number of input channels, by measurements at some."""
    return line(width, *zip(*_alike(width, found, step), strict=True))


def _alike(
    width: float, found: Sequence[tuple[float, float]], step: int
) -> Sequence[tuple[float, float]]:
    """The measurements at widths of the same kind; all if there are fewer than two."""
    whole = width % step == 0
    alike = [pair for pair in found if (pair[0] % step == 0) == whole]
    return alike if len(alike) > 1 or width in dict(alike) else found


def line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Linear interpolation, which goes on straight at the ends but not below 0.

    How steeply is told by points that are half of the width apart: between neighbors
    like 64 and 65 channels there is nothing but the noise of two measurements.
    """
    if len(xs) == 1 or xs[0] <= x <= xs[-1]:
        return float(np.interp(x, xs, ys))
    half = (xs[-1] - xs[0]) / 2
    if x < xs[0]:
        end, other = 0, next(i for i, at in enumerate(xs) if at - xs[0] >= half)
    else:
        end, other = -1, max(i for i, at in enumerate(xs) if xs[-1] - at >= half)
    slope = (ys[other] - ys[end]) / (xs[other] - xs[end])
    return max(0.0, ys[end] + slope * (x - xs[end]))
