"""Latency of dense networks beside their small ones, and what the MACs promise.

Every network is pruned in one shot (random weights: the time does not depend on them),
compacted and exported with a batch of 1. The candidates of one comparison take turns,
and medians are compared. Efficiency is the speed-up divided by the ratio of the
multiply-accumulates: 1 says that the time went as the arithmetic did.

    python -m experiments.benchmarks.latency --output=experiments/results

Measurements are appended to latency.jsonl in the work directory as they are made; a
rerun measures what is missing. latency.md in the output directory is written anew.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags, logging
from rich.console import Console

import pgmpf_tf
from experiments.benchmarks.tflite_operations import operation_milliseconds
from experiments.networks import models
from experiments.run.launching import launch
from pgmpf_tf._files import write_text
from pgmpf_tf.exporting.formats.saved_model import SavedModel
from pgmpf_tf.exporting.formats.tflite import TFLite

SIZES = {"resnet20": 32, "resnet50": 224, "mobilenetv2": 224, "efficientnetb0": 224}
"""Height and width of the images, by network."""

DENSE = 0
"""Stands for the dense network where others have their `round_to`."""

_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Measurement:
    """One comparison of a small network with its dense one.

    Attributes:
        network: a key of `SIZES`.
        runtime: `"float32"` or `"int8"` (TFLite), or `"SavedModel"` (float32).
        threads: threads that the runtime may use.
        round_to: of the small network.
        dense_ms, small_ms: median milliseconds of an inference.
        macs_ratio: multiply-accumulates of the dense network by those of the small.
        operations: for TFLite on one thread, milliseconds in the operations of each
            kind: of the dense and of the small network.
    """

    network: str
    runtime: str
    threads: int
    round_to: int
    dense_ms: float
    small_ms: float
    macs_ratio: float
    operations: dict[str, tuple[float, float]]

    @property
    def speedup(self) -> float:
        """How many times faster the small network is."""
        return self.dense_ms / self.small_ms

    @property
    def efficiency(self) -> float:
        """The part of the promised speed-up that is there."""
        return self.speedup / self.macs_ratio


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        rate: the fraction of the filters to remove.
        round_to: of the small networks, one after the other.
        rounds: turns of each candidate.
        work_dir: where models and measurements are kept.
    """

    rate: float
    round_to: tuple[int, ...]
    rounds: int
    work_dir: Path


def build(network: str, rate: float, round_to: int) -> keras.Model:
    """The dense network (`round_to` is `DENSE`), or its small one."""
    keras.utils.set_random_seed(0)
    shape = (SIZES[network], SIZES[network], 3)
    model = models.build(network, input_shape=shape, num_classes=1000)
    if round_to == DENSE:
        return model
    pruned = pgmpf_tf.wrap(model, rate, round_to=round_to)
    pruned.apply_masks()
    return pgmpf_tf.compact(pruned)


def prepare(plan: Plan, network: str, round_to: int) -> Path:
    """The folder with a candidate's exports and its cost, made if it is not there."""
    name = "dense" if round_to == DENSE else f"rate{plan.rate}_round{round_to}"
    folder = plan.work_dir / network / name
    cost = folder / "cost.json"
    if cost.exists():
        return folder
    with _CONSOLE.status(f"{network}: building and exporting {name}"):
        model = build(network, plan.rate, round_to)
        size = SIZES[network]
        data = np.random.default_rng(0).normal(size=(8, size, size, 3))
        # Random weights make classes of no meaning: their agreement says nothing.
        options: dict[str, Any] = {
            "batch_size": 1,
            "min_agreement": 0.0,
            "verbose": False,
        }
        pgmpf_tf.export(model, folder, **options)
        pgmpf_tf.export(
            model,
            folder,
            "tflite",
            quantize="int8",
            representative_data=data,
            tolerance=1.0,
            **options,
        )
        # Last, so that it says that the rest is there.
        write_text(cost, json.dumps({"macs": pgmpf_tf.profile(model).macs}))
    return folder


def runner(folder: Path, runtime: str, threads: int) -> Callable[[], object]:
    """One inference of a candidate."""
    if runtime == "SavedModel":
        return SavedModel().inference(folder / "saved_model", _inputs(folder))
    file = "model.tflite" if runtime == "float32" else "model_int8.tflite"
    return TFLite().inference(folder / file, _inputs(folder), threads)


def _inputs(folder: Path) -> dict[str, np.ndarray]:
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures
    _, specs = signature["serving_default"].structured_input_signature
    generator = np.random.default_rng(0)
    return {
        name: generator.normal(size=spec.shape).astype("float32")
        for name, spec in specs.items()
    }


def take_turns(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median milliseconds of each call.

    A turn is some calls in a row, about 20 ms, so that caches are as in steady use;
    turns alternate, so that a drift of the machine's speed meets all alike.
    """
    counts = []
    for call in calls:
        call()
        counts.append(max(1, int(20 / statistics.median(_milliseconds(call, 3)))))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, found in zip(calls, counts, times, strict=True):
            found += _milliseconds(call, count)
    return [statistics.median(found) for found in times]


def _milliseconds(call: Callable[[], object], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return times


def compare(plan: Plan, network: str, runtime: str, threads: int) -> list[Measurement]:
    """Measures the small networks of every `round_to` beside the dense one."""
    candidates = [DENSE, *dict.fromkeys(plan.round_to)]
    folders = [prepare(plan, network, round_to) for round_to in candidates]
    macs = [json.loads((f / "cost.json").read_text())["macs"] for f in folders]
    with _CONSOLE.status(f"{network}: {runtime} on {threads} threads"):
        calls = [runner(folder, runtime, threads) for folder in folders]
        times = take_turns(calls, plan.rounds)
        operations: list[dict[str, float]] = [{} for _ in folders]
        if runtime != "SavedModel" and threads == 1:
            file = "model.tflite" if runtime == "float32" else "model_int8.tflite"
            operations = [operation_milliseconds(f / file) for f in folders]
    return [
        Measurement(
            network,
            runtime,
            threads,
            round_to,
            times[0],
            times[i],
            macs[0] / macs[i],
            {
                kind: (operations[0].get(kind, 0.0), operations[i].get(kind, 0.0))
                for kind in {**operations[i], **operations[0]}
            },
        )
        for i, round_to in enumerate(candidates)
        if round_to != DENSE
    ]


def load(path: Path) -> list[Measurement]:
    """What has been measured before; a line that was cut off does not count."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(Measurement(**json.loads(line)))
        except json.JSONDecodeError:
            logging.warning("%s: measured again, as it was cut off: %s", path, line)
    return found


def table(measurements: list[Measurement]) -> str:
    """The measurements in Markdown, with the operations where efficiency is low."""
    lines = [
        "# Latency, dense beside small",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores; TensorFlow {tf.__version__}, "
        "LiteRT with XNNPACK; batch of 1, medians of alternating turns. Speed-up and "
        "MACs ratio are dense by small; efficiency is speed-up by MACs ratio.",
        "",
        "| network | runtime | threads | round_to | dense ms | small ms | speed-up "
        "| MACs ratio | efficiency |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {m.network} | {m.runtime} | {m.threads} | {m.round_to} | {m.dense_ms:.3g} "
        f"| {m.small_ms:.3g} | {m.speedup:.2f} | {m.macs_ratio:.2f} "
        f"| {m.efficiency:.2f} |"
        for m in measurements
    ]
    slow = [m for m in measurements if m.operations and m.efficiency < 0.8]
    if slow:
        lines += [
            "",
            "## Where the time goes when the efficiency is below 0.8",
            "",
            "Milliseconds in the operations of each kind, each timed by itself, on one "
            "thread; the five that take the small network's time most.",
            "",
            "| network | runtime | round_to | operation | dense ms | small ms "
            "| ratio |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
    for m in slow:
        longest = sorted(m.operations.items(), key=lambda item: -item[1][1])[:5]
        lines += [
            f"| {m.network} | {m.runtime} | {m.round_to} | {kind} | {dense:.3g} "
            f"| {small:.3g} | {dense / small:.2f} |"
            for kind, (dense, small) in longest
            if small
        ]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to measure, and where to write."""
    networks, precisions = list(SIZES), ["float32", "int8"]
    flags.DEFINE_multi_enum(
        "network", networks, networks, "Network to measure (repeatable)."
    )
    flags.DEFINE_multi_enum(
        "precision", precisions, precisions, "Of the TFLite files (repeatable)."
    )
    flags.DEFINE_float("rate", 0.5, "Fraction of the filters to remove.")
    flags.DEFINE_multi_integer(
        "round_to", [1, 8], "The filters kept are a multiple of this (repeatable)."
    )
    flags.DEFINE_multi_integer("threads", [1, 2], "Threads (repeatable).")
    flags.DEFINE_integer("rounds", 30, "Turns of each candidate.", lower_bound=3)
    flags.DEFINE_string("work_dir", "runs/latency", "Models and measurements.")
    flags.DEFINE_string("output", None, "Directory for latency.md; none if not given.")


def main(_: list[str]) -> None:
    """Measures what is missing, and writes the table."""
    given = flags.FLAGS
    plan = Plan(given.rate, tuple(given.round_to), given.rounds, Path(given.work_dir))
    tf.config.threading.set_intra_op_parallelism_threads(1)
    comparisons = [
        (network, runtime, threads)
        for network in given.network
        for runtime in (*given.precision, "SavedModel")
        for threads in ((1,) if runtime == "SavedModel" else given.threads)
    ]
    text = table(measure_all(plan, comparisons))
    print(text)
    if given.output:
        write_text(Path(given.output) / "latency.md", text)


def measure_all(
    plan: Plan, comparisons: list[tuple[str, str, int]]
) -> list[Measurement]:
    """What latency.jsonl holds, and what it lacked of the comparisons."""
    log = plan.work_dir / "latency.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    measured = load(log)
    for network, runtime, threads in comparisons:
        have = {
            m.round_to
            for m in measured
            if (m.network, m.runtime, m.threads) == (network, runtime, threads)
        }
        if have >= set(plan.round_to):
            continue
        for measurement in compare(plan, network, runtime, threads):
            if measurement.round_to not in have:
                measured.append(measurement)
                with log.open("a") as file:
                    file.write(json.dumps(asdict(measurement)) + "\n")
    return measured


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
