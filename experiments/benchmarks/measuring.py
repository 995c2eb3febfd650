"""What benchmarks share: a stopwatch, and a table of what it said."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes. Garbage of earlier calls is collected before."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def processor_seconds(work: Callable[[], Any]) -> float:
    """Processor time of a call: other jobs on the machine matter little to it."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """Prints dictionaries with the same keys as a table."""
    if not rows:
        return
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " .. ".join(map(_text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
