"""Measures what a training step costs before and after the network shrinks.

Steps of the dense network, of the masked one and of the small one that is left of it
alternate in one process on the same batch; each round gives their ratios of wall time
and of processor time, which other programs on the machine disturb less. What a run
takes that prunes in its first part and then shrinks follows from the ratios: steps are
all that it consists of, apart from updates of the masks (see `step_overhead`) and from
making the small network, which is timed here.

    python -m experiments.benchmarks.shrink --output=experiments/results
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console

import pgmpf_tf
from experiments.benchmarks import measuring
from experiments.benchmarks.step_overhead import (
    NETWORKS,
    OPTIMIZERS,
    batch,
    quartiles,
    steps_of,
)
from experiments.networks import models
from experiments.run.launching import launch
from pgmpf_tf._files import write_text

PRUNING = 0.3
"""The part of the run that the masked network takes, as the default method has it."""


def build(case: str, optimizer: str) -> keras.Model:
    """A compiled dense network."""
    network, size, _ = NETWORKS[case]
    keras.utils.set_random_seed(0)
    model = models.build(network, input_shape=(size, size, 3), num_classes=10)
    return compiled(model, optimizer)


def compiled(model: keras.Model, optimizer: str) -> keras.Model:
    """The model, compiled."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss)
    return model


def measure(
    case: str, optimizer: str, coupling: str, rate: float, rounds: int, warmup: int
) -> dict[str, Any]:
    """Times one case.

    Args:
        case: a key of `NETWORKS`.
        optimizer: a key of `OPTIMIZERS`.
        coupling: as of `pgmpf_tf.wrap`.
        rate: as of `pgmpf_tf.wrap`.
        rounds: how often each of the three networks takes a step.
        warmup: rounds before that.

    Returns:
        Quartiles of the ratios to the dense step and of its seconds, and what a run
        takes of the dense run's processor time.
    """
    data = batch(case)
    dense = build(case, optimizer)
    masked = pgmpf_tf.wrap(build(case, optimizer), rate, coupling=coupling, seed=0)
    compiled(masked, optimizer)
    steps = [steps_of(dense, data).timed, steps_of(masked, data).timed]
    for step in steps:
        step()
    masked.apply_masks()
    started = time.perf_counter()
    small = pgmpf_tf.compact(masked, compile=True)
    shrinking = time.perf_counter() - started
    steps.append(steps_of(small, data).timed)
    for _ in range(warmup):
        for step in steps:
            step()
    times = np.zeros((rounds, 3, 2))
    for number in range(rounds):
        # Each begins as often as the others, so that a drift cancels.
        for which in np.roll(range(3), number):
            times[number, which] = steps[which]()
    ratios = times / times[:, :1]
    wall, processor = (np.median(ratios[..., kind], axis=0) for kind in (0, 1))
    return {
        "network": case,
        "optimizer": optimizer,
        "coupling": coupling,
        "rate": rate,
        "rounds": rounds,
        "dense_seconds": quartiles(times[:, 0, 0]),
        "dense_processor_seconds": quartiles(times[:, 0, 1]),
        "masked": quartiles(ratios[:, 1, 0]),
        "masked_processor": quartiles(ratios[:, 1, 1]),
        "small": quartiles(ratios[:, 2, 0]),
        "small_processor": quartiles(ratios[:, 2, 1]),
        "run": float(PRUNING * wall[1] + (1 - PRUNING) * wall[2]),
        "run_processor": float(PRUNING * processor[1] + (1 - PRUNING) * processor[2]),
        "shrinking_seconds": shrinking,
        "parameters": [dense.count_params(), small.count_params()],
    }


def define_flags() -> None:
    """What to measure, and where to write."""
    cases, couplings = list(NETWORKS), ["grouped", "independent"]
    flags.DEFINE_multi_enum("network", ["resnet20"], cases, "Network (repeatable).")
    flags.DEFINE_multi_enum("coupling", couplings, couplings, "Coupling (repeatable).")
    flags.DEFINE_enum("optimizer", "sgd", list(OPTIMIZERS), "Optimizer.")
    flags.DEFINE_float("rate", 0.5, "Fraction of the filters to remove.")
    flags.DEFINE_integer("rounds", 30, "Steps of each network.", lower_bound=1)
    flags.DEFINE_integer("warmup", 3, "Steps of each before that.", lower_bound=1)
    flags.DEFINE_string("output", None, "Directory for shrink.json; none if not given.")


def main(_: list[str]) -> None:
    """Measures all cases."""
    chosen = flags.FLAGS
    load = [os.getloadavg()[0]]
    results = [
        measure(
            case,
            chosen.optimizer,
            coupling,
            chosen.rate,
            chosen.rounds,
            chosen.warmup,
        )
        for case in dict.fromkeys(chosen.network)
        for coupling in dict.fromkeys(chosen.coupling)
    ]
    load.append(os.getloadavg()[0])
    shown = ("network", "coupling", "masked_processor", "small_processor", "run")
    measuring.show(
        Console(),
        "Steps beside the dense network's",
        [
            {name: result[name] for name in (*shown, "run_processor")}
            for result in results
        ],
    )
    if chosen.output:
        record = {
            "processor": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_before_and_after": load,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "pruning": PRUNING,
            "results": results,
        }
        path = pathlib.Path(chosen.output) / "shrink.json"
        write_text(path, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
