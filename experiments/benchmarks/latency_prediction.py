"""Latency as a table predicts it, beside what is measured on the network itself.

For each network a table is measured (`pgmpf_tf.measure`; what is there already is not
measured again). Then the network is pruned at several rates, by uniform widths that are
no widths of the table, exported whole and timed, in turns with the dense one. What is
predicted is how much of the dense network's time is left, as budgets ask for it: how
fast the machine is changes by a fifth from minute to minute here, and a table is made
in minutes.

    python -m experiments.benchmarks.latency_prediction --output=experiments/results

Other runtimes than TFLite have to be asked for:

    python -m experiments.benchmarks.latency_prediction --runtime=onnx \
        --runtime=saved_model --network=resnet20 --coupling=grouped

Tables and measurements are kept in the work directory; a rerun measures what is
missing.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from absl import flags
from keras import layers
from rich.console import Console

import pgmpf_tf
from experiments.networks import models
from experiments.run.evaluation import environment
from experiments.run.launching import launch
from pgmpf_tf._files import write_text
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.exporting.measuring import RUNTIMES

NETWORKS = {
    "resnet50": ("ResNet50", (64, 128, 224)),
    "mobilenetv2": ("MobileNetV2", (96, 224)),
    "efficientnetb0": ("EfficientNetB0", (128, 224)),
    "vit": ("", (96, 224)),
    "resnet20": ("", (32,)),
}
"""The name in `keras.applications`, if it is there, and the sizes of the images."""

SOFTWARE = {
    "tflite": "LiteRT with XNNPACK",
    "onnx": "ONNX Runtime",
    "saved_model": "TensorFlow",
}

COUPLINGS = ("grouped", "independent")

# The same files take some percent more or less in another series: a network whose
# weights no cache of the core holds waits for what others on the machine read.
_SERIES = 5

_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Row:
    """One pruned network.

    Attributes:
        network, size, precision: what was pruned.
        runtime: what it was timed on.
        series: of so many measurements the time is the median.
        coupling, rate, round_to: how.
        macs: what is left of the multiply-accumulates.
        dense_ms, dense_predicted_ms: of the whole network.
        ms, predicted_ms: of the pruned one.
    """

    network: str
    size: int
    precision: str
    coupling: str
    rate: float
    round_to: int
    macs: float
    dense_ms: float
    dense_predicted_ms: float
    ms: float
    predicted_ms: float
    runtime: str = "tflite"
    series: int = 1

    @property
    def error(self) -> float:
        """How far the part of the dense time is from the measured one, as a part."""
        predicted = self.predicted_ms / self.dense_predicted_ms
        return predicted / (self.ms / self.dense_ms) - 1

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from other rows."""
        return (
            *(self.network, self.size, self.precision, self.runtime),
            *(self.coupling, self.rate, self.round_to),
        )


def vit(size: int, width: int = 192, heads: int = 3, depth: int = 12) -> keras.Model:
    """A vision transformer of stock layers (ViT-Tiny by default), patches of 16."""
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(width, 16, strides=16)(image)
    x = layers.Reshape(((size // 16) ** 2, width))(x)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
        y = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(1000)(x))


def build(network: str, size: int) -> keras.Model:
    """A network with random weights."""
    keras.utils.set_random_seed(0)
    name, _ = NETWORKS[network]
    if network == "vit":
        return vit(size)
    if not name:
        return models.build(network, input_shape=(size, size, 3), num_classes=10)
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=(size, size, 3))


def compare(
    network: str,
    size: int,
    precision: str,
    runtime: str,
    work_dir: Path,
    known: list[Row],
) -> Iterator[Row]:
    """The rows of one network on one runtime that are not known, as they are found."""
    model = build(network, size)
    suffix = "" if runtime == "tflite" else f"_{runtime}"
    path = work_dir / f"{network}_{size}_{precision}{suffix}.json"
    table = pgmpf_tf.measure(model, path, precision=precision, runtime=runtime)
    keys = [row.key for row in known]
    given = flags.FLAGS
    timer = RUNTIMES[runtime](precision, table.threads)
    rows, small = [], []
    for coupling, rate, round_to in itertools.product(
        given.coupling, map(float, given.rate), given.round_to
    ):
        key = (network, size, precision, runtime, coupling, rate, round_to)
        if key not in keys:
            made, row = _predicted(model, table, *key)
            rows.append(row)
            small.append(made)
    if not rows:
        return
    with _CONSOLE.status(f"{network}, {size}, {precision}, {runtime}"):
        series = [timer.milliseconds([model, *small]) for _ in range(_SERIES)]
    times = np.array(series)
    dense = float(np.median(times[:, 0]))
    parts = np.median(times[:, 1:] / times[:, :1], axis=0).tolist()
    for row, part in zip(rows, parts, strict=True):
        yield dataclasses.replace(row, dense_ms=dense, ms=part * dense, series=_SERIES)


def _predicted(
    model: keras.Model,
    table: LatencyTable,
    network: str,
    size: int,
    precision: str,
    runtime: str,
    coupling: str,
    rate: float,
    round_to: int,
) -> tuple[keras.Model, Row]:
    """A small network, and its row before anything was timed."""
    pruned = pgmpf_tf.wrap(
        keras.models.clone_model(model), rate, coupling=coupling, round_to=round_to
    )
    pruned.apply_masks()
    small = pgmpf_tf.compact(pruned)
    analysis = analyze(model, coupling=coupling)
    costs = CostModel(model, analysis)
    removed = np.zeros(analysis.unit_count, bool)
    whole = table.milliseconds(costs.segments(removed), costs.parts.network)
    masks = pruned.masks()
    for group in analysis.groups:
        removed[group.units] = masks[group.name] == 0
    predicted = table.milliseconds(costs.segments(removed), costs.parts.network)
    macs = pgmpf_tf.profile(small).macs / pgmpf_tf.profile(model).macs
    return small, Row(
        network=network,
        size=size,
        precision=precision,
        coupling=coupling,
        rate=rate,
        round_to=round_to,
        macs=macs,
        dense_ms=0.0,
        dense_predicted_ms=whole,
        ms=0.0,
        predicted_ms=predicted,
        runtime=runtime,
    )


def report(rows: list[Row]) -> str:
    """The rows in Markdown."""
    software = ", ".join(
        f"{SOFTWARE[name]} (`{name}`)"
        for name in dict.fromkeys(r.runtime for r in rows)
    )
    lines = [
        "# Latency, predicted beside measured",
        "",
        f"{environment()['cpu']}, {os.cpu_count()} cores; {software}; one thread, its "
        "processor time; lower quartile of alternating turns, median of some series. "
        "The table of each network was measured before. Error is the predicted part of "
        "the dense network's time by the measured one, less 1.",
        "",
        "| network | size | precision | runtime | coupling | rate | round_to "
        "| MACs left | series | measured ms | predicted ms | of dense, measured "
        "| predicted | error |",
        "| --- " * 14 + "|",
    ]
    lines += [
        f"| {r.network} | {r.size} | {r.precision} | {r.runtime} | {r.coupling} "
        f"| {r.rate:g} | {r.round_to} | {r.macs:.0%} | {r.series} | {r.ms:.3g} "
        f"| {r.predicted_ms:.3g} | {r.ms / r.dense_ms:.1%} "
        f"| {r.predicted_ms / r.dense_predicted_ms:.1%} | {r.error:+.1%} |"
        for r in rows
    ]
    lines += [
        "",
        "| network | size | precision | runtime | coupling | median | worst |",
    ]
    lines += ["| --- " * 7 + "|"]
    for case in dict.fromkeys(r.key[:5] for r in rows):
        errors = [abs(r.error) for r in rows if r.key[:5] == case]
        lines.append(
            "| " + " | ".join(map(str, case)) + f" | {statistics.median(errors):.1%} "
            f"| {max(errors):.1%} |"
        )
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to measure, and where to write."""
    flags.DEFINE_multi_enum("network", [*NETWORKS], [*NETWORKS], "Which (repeatable).")
    flags.DEFINE_multi_integer("size", [], "Of images; the network's own by default.")
    flags.DEFINE_multi_enum(
        "precision", ["float32"], ["float32", "int8"], "Of the files (repeatable)."
    )
    flags.DEFINE_multi_enum("runtime", ["tflite"], [*SOFTWARE], "Which (repeatable).")
    flags.DEFINE_multi_enum("coupling", COUPLINGS, COUPLINGS, "Which (repeatable).")
    flags.DEFINE_multi_float("rate", [0.2, 0.35, 0.5, 0.7], "Of filters (repeatable).")
    flags.DEFINE_multi_integer("round_to", [1, 8], "Of filters kept (repeatable).")
    flags.DEFINE_string("work_dir", "runs/latency", "Tables and measurements.")
    flags.DEFINE_string("output", None, "Directory for the results; none if not given.")


def main(_: list[str]) -> None:
    """Measures what is missing, and writes the results."""
    given = flags.FLAGS
    work_dir = Path(given.work_dir)
    rows_file = work_dir / "latency_prediction.json"
    rows: list[Row] = []
    if rows_file.exists():
        rows = [Row(**row) for row in json.loads(rows_file.read_text())]
    for network in given.network:
        for size in given.size or NETWORKS[network][1]:
            for precision, runtime in itertools.product(given.precision, given.runtime):
                asked = (network, size, precision, runtime)
                for row in compare(*asked, work_dir, list(rows)):
                    rows.append(row)
                    found = [asdict(row) for row in rows]
                    write_text(rows_file, json.dumps(found, indent=1))
    text = report(rows)
    print(text)
    if given.output:
        folder = Path(given.output)
        write_text(folder / "latency_prediction.md", text)
        content = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
        write_text(folder / "latency_prediction.json", content)


if __name__ == "__main__":
    launch(main, define_flags)
