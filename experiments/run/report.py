"""The result of a run as a table: dense beside small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table


def table(result: dict[str, Any]) -> Table:
    """The content of a `result.json`, to print.

    Args:
        result: what `experiments.run.runner.run` returned.

    Returns:
        A table: a row per quantity, a column for each of the dense and the small
        network that there is.
    """
    settings = result["settings"]
    columns = {k: result[k] for k in ("dense", "small") if k in result}
    view = Table(title=f"{settings['model']} on {settings['dataset']}")
    view.add_column("")
    for name in columns:
        view.add_column(name, justify="right")
    if len(columns) == 2:
        view.add_column("change", justify="right")
    for label, read, show in _ROWS:
        values = [read(column) for column in columns.values()]
        if None not in values:
            view.add_row(label, *map(show, values), *_change(label, values))
    if "agreement" in result:
        view.add_section()
        for label, pair in _PAIRS:
            if f"{pair}_deviation" in result["agreement"]:
                view.add_row(label, *_agreement(result["agreement"], pair, columns))
    return view


_PAIRS = (
    ("masked and compacted", "masked_compacted"),
    ("compacted and TFLite", "compacted_tflite"),
)


def _agreement(agreement, pair, columns):
    """The two figures of a pair of networks, in the last two columns."""
    deviation = f"deviation {agreement[f'{pair}_deviation']:.0e}"
    same = f"same class {agreement[f'{pair}_same_classes']:.0%}"
    if len(columns) == 1:
        return [f"{deviation}, {same}"]
    return ["", deviation, same]


def _export(kind: str, value: str) -> Callable[[dict[str, Any]], Any]:
    def read(column):
        return column.get("exports", {}).get(kind, {}).get(value)

    return read


def _bytes(value: int) -> str:
    return f"{value / 1000:,.1f} kB"


_ROWS: tuple[tuple[str, Callable, Callable], ...] = (
    ("test accuracy", lambda c: c["accuracy"], "{:.2%}".format),
    ("test accuracy, TFLite", lambda c: c.get("tflite_accuracy"), "{:.2%}".format),
    ("parameters", lambda c: c["params"], "{:,}".format),
    ("MACs", lambda c: c["macs"], "{:,}".format),
    (".keras file", lambda c: c["keras_bytes"], _bytes),
    ("SavedModel", _export("saved_model", "bytes"), _bytes),
    (".tflite file, float32", _export("tflite", "bytes"), _bytes),
    (
        "TFLite latency, 1 thread",
        _export("tflite", "latency_ms"),
        "{:.3f} ms".format,
    ),
)


def _change(label, values):
    if len(values) < 2:
        return []
    dense, small = values
    if "accuracy" in label:
        return [f"{100 * (small - dense):+.2f} points"]
    return [f"{small / dense - 1:+.1%}"]
