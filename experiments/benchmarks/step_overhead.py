"""Measures what masking costs in a training step, and what an update of masks costs.

A plain Keras step and a wrapped one alternate in one process, on the same batch; each
pair gives one ratio of wall time, and one of processor time, which other programs on
the machine disturb less. The wrapped model is in the middle of its schedules, with
dropout of the prior mask. The operations of the traced steps are counted as well.

    python -m experiments.benchmarks.step_overhead --output=experiments/results
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console
from rich.table import Table

import pgmpf_tf
from experiments.networks import models
from experiments.run.launching import launch
from pgmpf_tf._files import write_text

NETWORKS = {
    "resnet20": ("resnet20", 32, 128),
    "mobilenetv2": ("mobilenetv2", 96, 32),
    "resnet50": ("resnet50", 64, 16),
}
"""Network, size of the images, and images in a batch, by the name of the case."""

OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-4),
}

EPOCHS, EPOCH = 100, 40


def build(case: str, optimizer: str, wrapped: bool) -> keras.Model:
    """A compiled model, wrapped and in the middle of its schedules or plain."""
    network, size, _ = NETWORKS[case]
    keras.utils.set_random_seed(0)
    model = models.build(network, input_shape=(size, size, 3), num_classes=10)
    if wrapped:
        model = pgmpf_tf.wrap(model, 0.5, epochs=EPOCHS, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss)
    if wrapped:
        for epoch in (-1, EPOCH):
            model.update_masks(epoch)
    return model


def batch(case: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Random images and labels."""
    _, size, count = NETWORKS[case]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, size, size, 3)).astype(np.float32)
    return tf.constant(images), tf.constant(rng.integers(0, 10, count))


def stepper(
    model: keras.Model, data: tuple[tf.Tensor, tf.Tensor]
) -> Callable[[], tuple[float, float]]:
    """A function that runs one step as `fit` does: its wall and processor seconds."""
    batches = iter(tf.data.Dataset.from_tensors(data).cache().repeat())
    model.make_train_function()

    def step() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        logs = model.train_function(batches)
        float(logs["loss"])  # waits for the end of the step
        return time.perf_counter() - wall, time.process_time() - processor

    return step


def operations(model: keras.Model, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, int]:
    """How many operations of each type the traced step has."""
    graph = tf.function(model.train_step).get_concrete_function(data).graph
    counts: dict[str, int] = {}
    for operation in graph.get_operations():
        counts[operation.type] = counts.get(operation.type, 0) + 1
    return counts


def measure(case: str, optimizer: str, pairs: int, warmup: int) -> dict[str, object]:
    """Times and counts one case.

    Args:
        case: a key of `NETWORKS`.
        optimizer: a key of `OPTIMIZERS`.
        pairs: number of pairs of steps.
        warmup: steps of each model before that.

    Returns:
        Quartiles of the ratio and of the times in seconds, and counts.
    """
    data = batch(case)
    plain = build(case, optimizer, wrapped=False)
    model = build(case, optimizer, wrapped=True)
    steps = [stepper(plain, data), stepper(model, data)]
    for _ in range(warmup):
        for step in steps:
            step()
    both = np.zeros((pairs, 2, 2))
    for pair in range(pairs):
        # Every other pair starts with the other model, so that a drift cancels.
        for which in (0, 1) if pair % 2 else (1, 0):
            both[pair, which] = steps[which]()
    times, processor = both[..., 0], both[..., 1]
    updates = []
    for epoch in range(EPOCH, EPOCH + 3):
        start = time.perf_counter()
        model.update_masks(epoch)
        updates.append(time.perf_counter() - start)
    before, after = operations(plain, data), operations(model, data)
    added = {
        kind: after[kind] - before.get(kind, 0)
        for kind in after
        if after[kind] != before.get(kind, 0)
    }
    return {
        "network": case,
        "optimizer": optimizer,
        "pairs": pairs,
        "ratio": quartiles(times[:, 1] / times[:, 0]),
        "processor_ratio": quartiles(processor[:, 1] / processor[:, 0]),
        "plain_seconds": quartiles(times[:, 0]),
        "wrapped_seconds": quartiles(times[:, 1]),
        "update_seconds": quartiles(np.array(updates)),
        "update_in_steps": float(np.median(updates) / np.median(times[:, 0])),
        "plain_operations": sum(before.values()),
        "added_operations": sum(added.values()),
        "added_by_type": added,
        "weight_bytes": sum(w.numpy().nbytes for w in model.weights),
        "mask_bytes": sum(w.numpy().nbytes for w in model.pruning_state.weights),
    }


def quartiles(values: np.ndarray) -> list[float]:
    """First quartile, median and third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def show(results: list[dict[str, Any]]) -> None:
    """Prints the results as a table."""
    table = Table(title="A wrapped training step beside a plain one")
    for name in ("network", "plain step", "ratio", "processor", "update", "operations"):
        table.add_column(name)
    for result in results:
        table.add_row(
            f"{result['network']}, {result['optimizer']}",
            f"{1e3 * result['plain_seconds'][1]:.0f} ms",
            "{1:.3f}\n{0:.3f}-{2:.3f}".format(*result["ratio"]),
            "{1:.3f}\n{0:.3f}-{2:.3f}".format(*result["processor_ratio"]),
            f"{result['update_in_steps']:.2f} steps",
            f"{result['plain_operations']} + {result['added_operations']}",
        )
    Console().print(table)


def define_flags() -> None:
    """What to measure, and where to write."""
    cases = list(NETWORKS)
    flags.DEFINE_multi_enum("network", cases, cases, "Network to measure (repeatable).")
    flags.DEFINE_enum(
        "optimizer",
        "sgd",
        list(OPTIMIZERS),
        "sgd masks gradients, adam masks updates (`suppress` is auto).",
    )
    flags.DEFINE_integer("pairs", 30, "Pairs of steps to time.", lower_bound=1)
    flags.DEFINE_integer("warmup", 5, "Steps before that.", lower_bound=1)
    flags.DEFINE_string(
        "output",
        None,
        "Directory for step_overhead_<optimizer>.json; none if not given.",
    )


def main(_: list[str]) -> None:
    """Measures all cases."""
    optimizer = flags.FLAGS.optimizer
    results = []
    for case in dict.fromkeys(flags.FLAGS.network):
        pairs, warmup = flags.FLAGS.pairs, flags.FLAGS.warmup
        results.append(measure(case, optimizer, pairs, warmup))
        Console().print(f"{case}: done")
    show(results)
    if flags.FLAGS.output:
        record = {
            "processor": f"{platform.machine()}, {os.cpu_count()} cores",
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "results": results,
        }
        path = pathlib.Path(flags.FLAGS.output) / f"step_overhead_{optimizer}.json"
        write_text(path, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
