"""A run for people: its result as a table, and the page `report.html`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from rich import filesize
from rich.table import Table

import pgmpf_tf
from experiments.run.directory import RunDirectory
from experiments.run.records import COST
from pgmpf_tf.exporting import ExportReport


def table(result: dict[str, Any]) -> Table:
    """The content of a `result.json`, to print.

    Args:
        result: what `experiments.run.runner.run` returned.

    Returns:
        A table: a row per quantity, a column for each of the dense and the small
        network that there is.
    """
    settings = result["settings"]
    present = [name for name in ("dense", "small") if name in result]
    columns: dict[str, Any] = {name: result[name] for name in present}
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


def _agreement(
    agreement: dict[str, float], pair: str, columns: dict[str, Any]
) -> list[str]:
    """The two figures of a pair of networks, in the last two columns."""
    deviation = f"deviation {agreement[f'{pair}_deviation']:.0e}"
    same = f"same class {agreement[f'{pair}_same_classes']:.0%}"
    if len(columns) == 1:
        return [f"{deviation}, {same}"]
    return ["", deviation, same]


def _export(kind: str, value: str) -> Callable[[dict[str, Any]], Any]:
    def read(column: dict[str, Any]) -> Any:
        return column.get("exports", {}).get(kind, {}).get(value)

    return read


_ROWS: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], str]], ...] = (
    ("test accuracy", lambda c: c["accuracy"], "{:.2%}".format),
    ("test accuracy, TFLite", lambda c: c.get("tflite_accuracy"), "{:.2%}".format),
    ("parameters", lambda c: c["params"], "{:,}".format),
    ("MACs", lambda c: c["macs"], "{:,}".format),
    (".keras file", lambda c: c["keras_bytes"], filesize.decimal),
    ("SavedModel", _export("saved_model", "bytes"), filesize.decimal),
    (".tflite file, float32", _export("tflite", "bytes"), filesize.decimal),
    (
        "TFLite latency, 1 thread",
        _export("tflite", "latency_ms"),
        "{:.3f} ms".format,
    ),
)


def _change(label: str, values: list[float]) -> list[str]:
    if len(values) < 2:
        return []
    dense, small = values
    if "accuracy" in label:
        return [f"{100 * (small - dense):+.2f} points"]
    return [f"{small / dense - 1:+.1%}"]


def write_page(
    directory: RunDirectory,
    pruned: pgmpf_tf.PrunedModel,
    small: keras.Model,
    exports: Mapping[str, ExportReport],
) -> None:
    """Writes the page.

    Args:
        directory: the run's folder, with the records of all epochs.
        pruned: the wrapped model after training.
        small: what it was compacted to.
        exports: what was exported, by the name of the network.
    """
    settings = directory.settings
    page = pgmpf_tf.report(
        pruned,
        small,
        history=_histories(directory, pruned),
        exports=exports,
        title=f"{settings.model} on {settings.dataset}, pruned by {settings.method}",
    )
    page.save(directory.path / "report.html")


def _histories(
    directory: RunDirectory, pruned: pgmpf_tf.PrunedModel
) -> list[keras.callbacks.History]:
    """What `fit` would have returned for each stage, had nothing interrupted it."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in directory.metrics:
        stages.setdefault(record["stage"], []).append(record)
    histories = []
    for stage, records in stages.items():
        history = keras.callbacks.History()
        history.epoch = [record["epoch"] for record in records]
        history.history = {
            name: [record[name] for record in records]
            for name in records[0]
            if name not in ("stage", "epoch", *COST)
        }
        if stage == "pruned":
            history.set_model(pruned)
            history.set_params({"epochs": len(records)})
            masks = [
                {group: np.array([*kept]) == "1" for group, kept in record.items()}
                for record in directory.masks
            ]
            # A run that an earlier version began lacks the masks of its first epochs.
            if len(masks) == len(records) + 1:
                history.masks = masks
        histories.append(history)
    return histories
