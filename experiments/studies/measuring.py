"""What studies of many networks note of each."""

from __future__ import annotations

import collections
import gc
import re
import time
from collections.abc import Callable
from typing import Any

from pgmpf_tf.channels.units import Analysis


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and its seconds."""
    gc.collect()
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def pinned(analysis: Analysis) -> dict[str, int]:
    """How many filters are pinned, by the reason in a word, most frequent first."""
    counts: collections.Counter[str] = collections.Counter()
    for pin in analysis.pins:
        counts[in_a_word(pin.reason)] += pin.filters
    return dict(counts.most_common())


def in_a_word(reason: str) -> str:
    """The kind of thing that pins, without the layer's name."""
    reader = re.match(r"(?:read by|tied to the output of) (\w+)", reason)
    if reader:
        return reader[1]
    for sign, word in _WORDS.items():
        if sign in reason:
            return word
    return reason


_WORDS = {
    "output of the model": "output",
    "input of the model": "input",
    "excluded": "excluded",
    "broadcast": "broadcast",
    "pruned, it would put": "not silent",
    "frozen": "frozen",
}
