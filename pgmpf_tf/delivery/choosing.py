"""Which filters go, without labels: measured by the distance to the dense network."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
from keras import tree

from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.scores.sensitivity import sensitivity
from pgmpf_tf.scores.sensitivity_table import Sensitivity

RATES = (0.25, 0.5, 0.75)
FEWEST, MOST = 16, 256
"""Samples for a measurement."""


def measure(
    model: keras.Model,
    inputs: Any,
    outputs: Any,
    loss: Any,
    seconds: float,
    path: Path,
    verbose: bool,
) -> Sensitivity | None:
    """What pruning each group alone does to the distance to the dense network.

    Args:
        model: the dense network; it is compiled.
        inputs: samples in its structure.
        outputs: what it gives for them.
        loss: how far outputs are from these.
        seconds: about how long it may take.
        path: where results are kept as they come.
        verbose: whether to show progress.

    Returns:
        The measurement, or None if even few samples would take longer.
    """
    model.compile(loss=loss)
    count = len(tree.flatten(inputs)[0])
    fewest = _first((inputs, outputs), min(count, FEWEST))
    model.evaluate(*fewest, verbose=0)
    start = time.monotonic()
    model.evaluate(*fewest, verbose=0)
    each = (time.monotonic() - start) / len(tree.flatten(fewest)[0])
    groups = len(analyze(model).groups)
    affordable = int(seconds / max(each * groups * len(RATES), 1e-9))
    if affordable < FEWEST and not path.exists():
        return None
    chosen = _first((inputs, outputs), min(count, MOST, max(affordable, FEWEST)))
    # The same samples after a restart, however fast the machine is then.
    note = path.with_suffix(".count")
    if note.exists():
        chosen = _first((inputs, outputs), int(note.read_text("utf-8")))
    else:
        note.write_text(str(len(tree.flatten(chosen)[0])), "utf-8")
    return sensitivity(
        model, chosen, RATES, metric="loss", mode="min", path=path, progress=verbose
    )


def with_sensitivity(budget: Budget, table: Sensitivity | None) -> Budget:
    """The budget, spent where it costs the least distance, if that was measured."""
    if table is None or budget.strategy != "uniform":
        return budget
    return dataclasses.replace(budget, strategy="sensitivity", sensitivity=table)


def _first(pair: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    inputs, outputs = (tree.map_structure(lambda x: x[:count], part) for part in pair)
    return inputs, outputs
