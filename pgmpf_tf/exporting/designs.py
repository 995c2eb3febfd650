"""Which widths of the parts of a network `measure` times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.channels.units import Analysis

# How many widths of a group are tried, and how often beside others of other groups.
# Branches that keep channels of their own are wanted for what keeps them apart only.
# They come last: where there are too many widths, those found first are timed.
LEVELS = 21
TURNS = {"grouped": 3, "independent": 1}
_WIDTHS_IN = 3
_WIDTHS_OUT = 21
_INSIDE = 4


def designs(analysis: Analysis, turns: int) -> Iterator[np.ndarray]:
    """Networks in which each group has each of its widths, beside several of others.

    In a turn every group goes through its widths, from a start of its own: the first
    time all from the narrowest, then from any.

    Args:
        analysis: the groups.
        turns: how many.

    Yields:
        Which units are gone.
    """
    levels = [levels_of(len(group.units)) for group in analysis.groups]
    starts = np.random.default_rng(0).integers(LEVELS, size=(turns, len(levels)))
    starts[0] = 0
    for start in starts:
        for turn in range(LEVELS):
            counts = [
                known[(turn + first) % LEVELS * len(known) // LEVELS]
                for known, first in zip(levels, start, strict=True)
            ]
            yield removed_when(analysis, counts)


def levels_of(count: int) -> list[int]:
    """How many units of a group to keep: at the edges of the tiles that may be.

    Widths of every kind are among them, see `Stairs`: whole tiles, an odd and an even
    number of them, and a channel more than each. One channel alone is no such kind
    (Keras adds it as a bias, which LiteRT does not convert in three dimensions).
    """
    tiles = next((n for n in (32, 16, 8, 4) if count >= 3 * n), 1)
    lowest = 1 / 8 if count >= 8 * tiles else 0
    found = {count}
    for part in (lowest, 1 / 4, 1 / 2, 3 / 4):
        top = round(part * count / tiles) * tiles
        half, quarter = tiles // 2, tiles // 4
        found |= {top + more for more in (0, 1, quarter + 1, half, half + 1)}
    least = 1 if tiles == 1 else 2
    return sorted(level for level in found if least <= level <= count)


def removed_when(analysis: Analysis, counts: Sequence[int]) -> np.ndarray:
    """Which units are gone when groups keep so many: in each group random ones."""
    generator = np.random.default_rng(0)
    removed = np.zeros(analysis.unit_count, bool)
    for group, kept in zip(analysis.groups, counts, strict=True):
        removed[generator.permutation(group.units)[kept:]] = True
    return removed


def thinned(segments: Sequence[Segment], input_step: int) -> Iterator[Segment]:
    """A few widths in for each of some widths out, the extremes among them.

    Args:
        segments: of one family, those of the widths that tell most before others.
        input_step: of how many input channels kernels take multiples in another way.
    """
    insides = spread(sorted({segment.inside for segment in segments}), _INSIDE)
    if len(insides) > 1:
        for inside in insides:
            alike = [segment for segment in segments if segment.inside == inside]
            yield from thinned(alike, input_step)
        return
    outs: dict[float, list[Segment]] = {}
    for segment in segments:
        outs.setdefault(segment.width_out, []).append(segment)
    chosen = sorted([*outs][:_WIDTHS_OUT])
    ins = max(_WIDTHS_IN, _WIDTHS_OUT // len(chosen))
    for out in chosen:
        kinds: dict[bool, list[Segment]] = {}
        for segment in sorted(outs[out], key=lambda s: s.width_in):
            kinds.setdefault(segment.width_in % input_step == 0, []).append(segment)
        for found in kinds.values():
            yield from spread(found, max(2, ins // len(kinds)))


def spread(values: list[Any], count: int) -> list[Any]:
    """So many values at equal distances, the first and the last among them."""
    if len(values) <= count:
        return values
    places = np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))
    return [values[place] for place in places]
