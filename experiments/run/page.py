"""The page about a pruning run: `report.html` in its folder."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

import pgmpf_tf
from experiments.run.directory import RunDirectory
from pgmpf_tf.exporting import ExportReport


def write(
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


def _histories(directory, pruned):
    """What `fit` would have returned for each stage, had nothing interrupted it."""
    stages = {}
    for record in directory.metrics:
        stages.setdefault(record["stage"], []).append(record)
    histories = []
    for stage, records in stages.items():
        history = keras.callbacks.History()
        history.epoch = [record["epoch"] for record in records]
        history.history = {
            name: [record[name] for record in records]
            for name in records[0]
            if name not in ("stage", "epoch", "seconds")
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
