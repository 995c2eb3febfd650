"""Measures how long the search for a budget takes, and how well it is met.

For each network, coupling and strategy: `wrap(rate=Budget(macs=0.5))` beside
`wrap(rate=0.5)`, which does all but the search, in turns; then the network is pruned
and compacted, and what is left of its multiply-accumulates is counted. Beside it stands
the time that one `compact` takes: the search would need it once per candidate if it
built them.

    python -m experiments.benchmarks.budget --output=experiments/results
"""

from __future__ import annotations

import functools
import itertools
import json
import pathlib
import statistics
from typing import Any

import keras
from absl import flags
from rich.console import Console
from rich.progress import track

import pgmpf_tf
from experiments.benchmarks.measuring import seconds, show
from experiments.networks import applications
from experiments.run.evaluation import environment
from experiments.run.launching import launch
from pgmpf_tf._files import write_text

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "DenseNet121")
COUPLINGS = ("grouped", "independent")
STRATEGIES = ("uniform", "global")
SEED = 0


def measure(name: str, fraction: float, runs: int) -> list[dict[str, Any]]:
    """A row per coupling and strategy.

    Args:
        name: a network of keras.applications.
        fraction: of the multiply-accumulates to take away.
        runs: searches per row; the median of their times is shown.
    """
    rows = []
    model = applications.build(name)
    weights, dense = model.get_weights(), pgmpf_tf.profile(model).macs
    works = list(itertools.product(COUPLINGS, STRATEGIES))
    for coupling, strategy in track(works, description=name):
        budget = pgmpf_tf.Budget(macs=fraction, strategy=strategy)

        wrap = functools.partial(pgmpf_tf.wrap, model, coupling=coupling, seed=SEED)

        searches = []
        for _ in range(runs):
            plain = seconds(functools.partial(wrap, 0.5))
            searches.append(seconds(functools.partial(wrap, budget)) - plain)
        pruned = wrap(budget)
        pruned.apply_masks()
        compaction = seconds(functools.partial(pgmpf_tf.compact, pruned))
        small = pgmpf_tf.compact(pruned)
        rows.append(
            {
                "network": name,
                "coupling": coupling,
                "strategy": strategy,
                "macs_left": pgmpf_tf.profile(small).macs / dense,
                "search_seconds": statistics.median(searches),
                "compact_seconds": compaction,
            }
        )
        model.set_weights(weights)
    return rows


def define_flags() -> None:
    """What to measure, and where to write."""
    flags.DEFINE_multi_enum(
        "network", NETWORKS, applications.NAMES, "Network to measure (repeatable)."
    )
    flags.DEFINE_float(
        "macs", 0.5, "Fraction of the MACs to take away.", lower_bound=0.0
    )
    flags.DEFINE_integer("runs", 5, "Searches per row.", lower_bound=1)
    flags.DEFINE_string("output", None, "Directory for budget.json; none if not given.")


def main(_: list[str]) -> None:
    """Measures, prints, and writes the file."""
    rows = []
    for name in flags.FLAGS.network:
        rows += measure(name, flags.FLAGS.macs, flags.FLAGS.runs)
        keras.utils.clear_session()
    show(Console(), f"Budget(macs={flags.FLAGS.macs})", rows)
    if flags.FLAGS.output:
        path = pathlib.Path(flags.FLAGS.output) / "budget.json"
        result = {"macs": flags.FLAGS.macs, "seed": SEED, "machine": environment()}
        write_text(path, json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
