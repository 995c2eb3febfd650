"""What each part of a network costs at each width on a runtime: a table of times."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgmpf_tf._checks import check_path, received
from pgmpf_tf._files import write_text
from pgmpf_tf.budgets.segments import GATHERS, Segment, gather_family
from pgmpf_tf.budgets.times import Point, Times
from pgmpf_tf.budgets.whole import Whole, whole_of

# Since 2 without what calling the runtime for a part takes.
_VERSION = 2


@dataclass(frozen=True)
class LatencyTable:
    """What the parts of a network take on a runtime; `pgmpf_tf.measure` makes it.

    Parts are timed one by one. Together they take more, as caches have it: whole
    networks that were timed beside them tell how much.

    Attributes:
        runtime: the software, such as `"tflite"`.
        precision: how the numbers are held: `"float32"` or `"int8"`.
        threads: how many threads it used.
        machine: the processor that it ran on.
        times: by the family of segments.
        networks: by what tells a network from others, what it took as a whole at some
            widths.
        input_step: of how many input channels kernels take multiples in another way.
    """

    runtime: str
    precision: str
    threads: int
    machine: str
    times: Mapping[str, Times] = field(default_factory=dict)
    networks: Mapping[str, tuple[Whole, ...]] = field(default_factory=dict)
    input_step: int = 1

    def milliseconds(self, segments: Iterable[Segment], network: str = "") -> float:
        """What a network takes.

        Args:
            segments: its parts.
            network: what tells it from others.

        Raises:
            ValueError: a part has not been measured.
        """
        return self.whole([*segments], network).milliseconds

    def whole(self, segments: Sequence[Segment], network: str = "") -> Whole:
        """What a network takes, and what tells it; see `milliseconds`."""
        times = [self._milliseconds(segment) for segment in segments]
        return whole_of(segments, times, self.networks.get(network, ()))

    def _milliseconds(self, segment: Segment) -> float:
        times = self._times_of(segment.family)
        if times is None:
            raise ValueError(
                "`latency_table` must hold all that the network consists of: run "
                "`python -m pgmpf_tf measure` on this model. Received: a table "
                f"without {segment.family}"
            )
        sizes = segment.width_in, segment.width_out, segment.inside
        return times.at(*sizes, input_step=self.input_step)

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
                raise ValueError(
                    f"its version is {values['version']!r} instead of {_VERSION}: "
                    "measure a new one"
                )
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
                    str(key): tuple(map(_whole, found))
                    for key, found in values["networks"].items()
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
    point = Point(*map(float, values))
    if min(point) < 0 or point.milliseconds == 0 or not math.isfinite(sum(point)):
        raise ValueError(f"a point is {values!r}")
    return point


def _whole(values: Sequence[float]) -> Whole:
    whole = Whole(*map(float, values))
    if min(whole) < 0 or whole.milliseconds == 0 or not math.isfinite(sum(whole)):
        raise ValueError(f"a network is {values!r}")
    return whole


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
