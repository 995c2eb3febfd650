"""Records of runs that are files: what is there is not done again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def known(path: Path, **settings: Any) -> Record | None:
    """The record of a run, or None if there is none yet.

    Args:
        path: its file.
        settings: what must be in it, as JSON gives it back.

    Raises:
        ValueError: it was run with others.
    """
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text("utf-8"))
    found = {name: record[name] for name in settings}
    if found != settings:
        raise ValueError(
            f"`runs_dir` holds runs with other settings: {found}. Received: {settings}"
        )
    return record


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of fractions, in percent, where there are as many."""
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean + (f" ± {100 * statistics.stdev(values):.2f}" if values[1:] else "")
