"""Which filters go, without labels: measured by the distance to the dense network."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.scores.criteria import Taylor
from pgmpf_tf.scores.sensitivity import sensitivity
from pgmpf_tf.scores.sensitivity_table import Sensitivity

RATES = (0.25, 0.5, 0.75)
FEWEST, MOST = 16, 256
"""Samples for a measurement."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was measured of the filters.

    Attributes:
        criterion: which filters of a group matter least.
        table: what pruning each group alone does to the distance to the dense network.
    """

    criterion: Taylor
    table: Sensitivity

    def spent(self, budget: Budget) -> Budget:
        """The budget, spent where it costs the least distance, unless it says how."""
        if budget.strategy != "uniform":
            return budget
        return dataclasses.replace(
            budget, strategy="sensitivity", sensitivity=self.table
        )


def measure(
    model: keras.Model,
    inputs: Any,
    outputs: Any,
    loss: Any,
    seconds: float,
    path: Path,
    verbose: bool,
) -> Choice | None:
    """Which filters matter, and how much each group of them does.

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
    chosen = min(count, MOST, max(affordable, FEWEST))
    # The same samples after a restart, however fast the machine is then.
    note = path.with_suffix(".count")
    if note.exists():
        chosen = int(note.read_text("utf-8"))
    else:
        note.write_text(str(chosen), "utf-8")
    # As many again for each group would take longer than the table.
    scored, scored_outputs = _first((inputs, outputs), min(count, 4 * chosen))
    criterion = effect_on_outputs(scored, scored_outputs)
    table = sensitivity(
        model,
        _first((inputs, outputs), chosen),
        RATES,
        metric="loss",
        mode="min",
        criterion=criterion,
        path=path,
        progress=verbose,
    )
    return Choice(criterion, table)


def effect_on_outputs(inputs: Any, outputs: Any) -> Taylor:
    """Scores filters by how much the outputs would move without them.

    The distance to the dense network has no slope at the dense network itself, and its
    second-order term is the mean square of what a filter contributes to the outputs:

        score = E[(sum_i s_i f_i)^2]

    where f_i is the sum of gradient * weight for output i, in its standard deviations,
    and s_i is -1 or 1 at random, so that mixed terms vanish on average (M. Hutchinson,
    1989). This is the criterion Taylor for a loss that is linear in the outputs.

    Args:
        inputs: samples in the structure of the network's inputs.
        outputs: what the dense network gives for them.
    """
    generator = np.random.default_rng(0)

    def signs(array: np.ndarray) -> np.ndarray:
        spread = max(float(np.std(array)), 1e-12)
        drawn = generator.choice([-1.0, 1.0], array.shape) / spread
        return drawn.astype("float32")

    targets = tree.map_structure(signs, outputs)
    loss = tree.map_structure(lambda array: _Projection(), outputs)
    return Taylor((inputs, targets), loss)


class _Projection(keras.losses.Loss):
    """Per sample and position, the sum over the outputs times their targets."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.sum(y_true * y_pred, axis=-1)

    def __repr__(self) -> str:
        return "projection"  # in files, which another process reads


def _first(pair: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    inputs, outputs = (tree.map_structure(lambda x: x[:count], part) for part in pair)
    return inputs, outputs
