"""What each part of a network costs at each width on a runtime: a table of times."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pgmpf_tf._checks import check_path, received
from pgmpf_tf._files import write_text
from pgmpf_tf.budgets.segments import GATHERS, Segment, gather_family

Point = tuple[float, float, float]
"""Channels in, channels out, milliseconds."""

STEPS = (1, 8, 16, 32, 64)
"""The widths of stairs that a kernel may have, in channels."""

_VERSION = 1
# A stair is believed in if it leaves this part of a straight line's error at most.
_CONVINCING = 0.8


@dataclass(frozen=True)
class Times:
    """The times of one family of segments, measured at some widths.

    Kernels work on whole tiles of output channels, so that time is a staircase of the
    width. Between stairs that were measured their heights are interpolated; a stair
    is never smoothed over.

    Attributes:
        points: what was measured.
    """

    points: tuple[Point, ...]

    @functools.cached_property
    def step(self) -> int:
        """How many output channels a stair has: the number that fits the times best.

        It is 1 where time goes evenly.
        """
        if len({out for _, out, _ in self.points}) < 6:
            return 1
        errors = [self._error(step) for step in STEPS]
        best = int(np.argmin(errors))
        return STEPS[best] if errors[best] < _CONVINCING * errors[0] else 1

    def _error(self, step: int) -> float:
        """How far the times are, relatively, from a plane over stairs of a width."""
        into, out, time = np.array(self.points).T
        stairs = np.ceil(out / step) * step
        terms = np.stack([np.ones_like(into), into, stairs, into * stairs], axis=1)
        terms = terms / time[:, None]
        found = np.linalg.lstsq(terms, np.ones_like(time), rcond=None)[0]
        return float(np.sum((terms @ found - 1) ** 2))

    @functools.cached_property
    def _levels(self) -> dict[float, list[tuple[float, float]]]:
        """For each number of output channels, numbers of input channels and times."""
        levels: dict[float, list[tuple[float, float]]] = {}
        for into, out, time in sorted(self.points):
            levels.setdefault(out, []).append((into, time))
        return dict(sorted(levels.items()))

    def at(self, width_in: float, width_out: float, input_step: int = 1) -> float:
        """Milliseconds at a width; exact where that was measured.

        Args:
            width_in: the number of input channels.
            width_out: the number of output channels.
            input_step: of what number of input channels a multiple is another matter
                than what is none: the one does not tell the time of the other.
        """
        if not self.points:
            return 0.0
        levels = {
            out: _line(
                width_in, *zip(*_alike(width_in, found, input_step), strict=True)
            )
            for out, found in self._levels.items()
        }
        stair = math.ceil(width_out / self.step)
        stairs: dict[int, list[float]] = {}
        for out in levels:
            stairs.setdefault(math.ceil(out / self.step), []).append(out)
        if stair in stairs and self.step > 1:
            outs = stairs[stair]
            return float(np.interp(width_out, outs, [levels[out] for out in outs]))
        # The highest width on a stair stands for it.
        tops = [outs[-1] for outs in stairs.values()]
        positions = [number * self.step for number in stairs]
        where = width_out if self.step == 1 else stair * self.step
        return _line(where, positions, [levels[top] for top in tops])


def _alike(
    width: float, found: Sequence[tuple[float, float]], step: int
) -> Sequence[tuple[float, float]]:
    """The measurements at widths of the same kind; all if there are fewer than two."""
    whole = width % step == 0
    alike = [pair for pair in found if (pair[0] % step == 0) == whole]
    return alike if len(alike) > 1 or width in dict(alike) else found


def _line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
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


@dataclass(frozen=True)
class LatencyTable:
    """What the parts of a network take on a runtime; `pgmpf_tf.measure` makes it.

    Parts are timed one by one. Together they take a little more or less, as caches
    have it: whole networks that were timed beside them tell how much.

    Attributes:
        runtime: the software, such as `"tflite"`.
        precision: how the numbers are held: `"float32"` or `"int8"`.
        threads: how many threads it used.
        machine: the processor that it ran on.
        times: by the family of segments.
        networks: by what tells a network from others, pairs of milliseconds: the sum
            of its segments, and what it took as a whole, at some widths.
        input_step: of how many input channels kernels take multiples in another way.
    """

    runtime: str
    precision: str
    threads: int
    machine: str
    times: Mapping[str, Times] = field(default_factory=dict)
    networks: Mapping[str, tuple[tuple[float, float], ...]] = field(
        default_factory=dict
    )
    input_step: int = 1

    def milliseconds(self, segments: Iterable[Segment], network: str = "") -> float:
        """What a network takes.

        Args:
            segments: its parts.
            network: what tells it from others.

        Raises:
            ValueError: a part has not been measured.
        """
        total = 0.0
        for segment in segments:
            times = self._times_of(segment.family)
            if times is None:
                raise ValueError(
                    "`latency_table` must hold all that the network consists of: run "
                    "`python -m pgmpf_tf measure` on this model. Received: a table "
                    f"without {segment.family}"
                )
            total += times.at(segment.width_in, segment.width_out, self.input_step)
        known = sorted(self.networks.get(network, ()))
        if not known:
            return total
        sums = [parts for parts, _ in known]
        ratios = [whole / parts for parts, whole in known]
        return total * float(np.interp(total, sums, ratios))

    def _times_of(self, family: str) -> Times | None:
        """The times of a family; of what compaction inserts, of any kind there is.

        Which kinds are wanted at a place depends on which filters go: a table may have
        seen another one there.
        """
        if family in self.times or '"gather"' not in family:
            return self.times.get(family)
        described = json.loads(family)
        for kind in GATHERS:
            other = gather_family(kind, described["shape"], described["axis"])
            if other in self.times:
                return self.times[other]
        return None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as JSON.

        Args:
            path: the file; an older one is replaced in one step.
        """
        write_text(check_path("path", path), json.dumps(self.to_dict()) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """The table as a dictionary that JSON can hold."""
        return {
            "version": _VERSION,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "machine": self.machine,
            "input_step": self.input_step,
            "times": [
                {"family": json.loads(family), "points": [list(p) for p in t.points]}
                for family, t in self.times.items()
            ],
            "networks": {k: [list(p) for p in v] for k, v in self.networks.items()},
        }

    @classmethod
    def from_dict(cls, values: Any, argument: str = "values") -> LatencyTable:
        """The inverse of `to_dict`.

        Args:
            values: what it gave.
            argument: the caller's argument, for messages.

        Raises:
            ValueError: that is not such a dictionary.
        """
        try:
            if values["version"] != _VERSION:
                raise ValueError(f"its version is {values['version']!r}")
            return cls(
                str(values["runtime"]),
                str(values["precision"]),
                int(values["threads"]),
                str(values["machine"]),
                {
                    json.dumps(entry["family"], sort_keys=True): Times(
                        tuple(map(_point, entry["points"]))
                    )
                    for entry in values["times"]
                },
                {
                    str(key): tuple((float(a), float(b)) for a, b in pairs)
                    for key, pairs in values["networks"].items()
                },
                _step(values.get("input_step", 1)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"`{argument}` must be a table that `pgmpf_tf.measure` has made "
                f"({type(error).__name__}: {error}). {received(argument, type(values))}"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatencyTable:
        """Reads a table from a file.

        Args:
            path: the file.

        Raises:
            TypeError: that is no path.
            ValueError: there is no such file, or it holds something else.
        """
        return load_table("path", path)

    def with_times(self, times: Mapping[str, Times]) -> LatencyTable:
        """The table with other times beside or in the place of its own."""
        return dataclasses.replace(self, times={**self.times, **times})


def _point(values: Sequence[float]) -> Point:
    into, out, time = map(float, values)
    if not (into >= 0 and out >= 0 and time > 0 and math.isfinite(into + out + time)):
        raise ValueError(f"a point is {values!r}")
    return into, out, time


def _step(value: Any) -> int:
    if int(value) < 1:
        raise ValueError(f"input_step is {value!r}")
    return int(value)


def load_table(argument: str, path: Any) -> LatencyTable:
    """A table from the file that an argument names; see `LatencyTable.load`."""
    file = check_path(argument, path)
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be a JSON file that `pgmpf_tf.measure` has written "
            f"({type(error).__name__}: {error}). {received(argument, str(path))}"
        ) from error
    return LatencyTable.from_dict(values, argument)
