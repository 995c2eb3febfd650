"""Measures what analysis and compaction cost, against copying the model.

`analyze` plus `compact` of a network pruned by half, and `keras.models.clone_model`
plus copying its weights, alternate in one process; each pair gives one ratio. Then
bottleneck ResNets as deep as ResNet-1001, and KerasHub's ViT with more and more blocks,
are analyzed and compacted: seconds per layer tell whether the time is linear in the
depth. All times are of the processor.

    python -m experiments.benchmarks.compaction --output=experiments/results
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
from typing import Any

import keras
from absl import flags
from keras import layers
from rich.console import Console
from rich.progress import track

import pgmpf_tf
from experiments.benchmarks.measuring import processor_seconds as seconds
from experiments.benchmarks.measuring import show
from experiments.networks import applications, hub
from experiments.run.evaluation import environment
from experiments.run.launching import launch
from pgmpf_tf._files import write_text
from pgmpf_tf.channels.analysis import analyze

NETWORKS = (
    "ResNet50",
    "DenseNet121",
    "EfficientNetB0",
    "NASNetMobile",
    *hub.FULL_SIZE,
)

SEED = 0


def compare(name: str, pairs: int) -> dict[str, Any]:
    """Medians over alternating runs of compaction and of copying one network."""
    model = hub.FULL_SIZE[name]() if name in hub.FULL_SIZE else applications.build(name)
    pruned = pgmpf_tf.wrap(model, rate=0.5, seed=SEED)
    pruned.apply_masks()

    def copy() -> None:
        keras.models.clone_model(model).set_weights(model.get_weights())

    works = {
        "analyze": lambda: analyze(model),
        "compact": lambda: pgmpf_tf.compact(pruned),
        "copy": copy,
    }
    rows: list[dict[str, float]] = []
    for number in track(range(pairs + 1), description=name):
        # Every other run starts at the other end, so that a drift cancels.
        order = list(works) if number % 2 else list(works)[::-1]
        rows.append({key: seconds(works[key]) for key in order})
    del rows[0]  # the first run meets cold caches
    ratios = [(row["analyze"] + row["compact"]) / row["copy"] for row in rows]
    return {
        "network": name,
        "layers": _count(model),
        "pairs": pairs,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    } | {f"{key}_seconds": statistics.median(row[key] for row in rows) for key in works}


def chain(depth: int) -> keras.Model:
    """A bottleneck ResNet with pre-activations for 32x32 images (He et al. 2016).

    Args:
        depth: 9n + 2 convolutions and dense layers, such as 1001.

    Returns:
        A Functional model with 10 logits.

    Raises:
        ValueError: if the depth is not 9n + 2.
    """
    blocks, rest = divmod(depth - 2, 9)
    if blocks < 1 or rest:
        raise ValueError(f"depth must be 9n + 2. Received: depth={depth}")

    def convolve(
        x: keras.KerasTensor, filters: int, size: int, strides: int = 1
    ) -> keras.KerasTensor:
        x = layers.ReLU()(layers.BatchNormalization()(x))
        return layers.Conv2D(
            filters, size, strides=strides, padding="same", use_bias=False
        )(x)

    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(image)
    for width in (16, 32, 64):
        for block in range(blocks):
            strides = 2 if block == 0 and width > 16 else 1
            y = convolve(x, width, 1, strides)
            y = convolve(convolve(y, width, 3), 4 * width, 1)
            if block == 0:
                x = convolve(x, 4 * width, 1, strides)
            x = layers.Add()([x, y])
    # Keras recurses from a model's outputs to its inputs, a frame per layer.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * depth))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(image, layers.Dense(10)(x))


def blocks(depth: int) -> keras.Model:
    """KerasHub's ViT, narrow, with so many blocks."""
    return hub.vit(depth=depth, width=64, heads=4, size=64)


CHAINS = {"ResNet": chain, "ViT": blocks}


def _count(model: keras.Model) -> int:
    """How many layers a model has, those inside of others too."""
    return sum(1 for _ in model._flatten_layers(include_self=False))


def deepen(architecture: str, depth: int) -> dict[str, Any]:
    """Seconds for one chain: analysis (median of three) and compaction (once)."""
    model = CHAINS[architecture](depth)
    analysis = statistics.median(seconds(lambda: analyze(model)) for _ in range(3))
    pruned = pgmpf_tf.wrap(model, rate=0.5, seed=SEED)
    pruned.apply_masks()
    compaction = seconds(lambda: pgmpf_tf.compact(pruned))
    count = _count(model)
    return {
        "architecture": architecture,
        "depth": depth,
        "layers": count,
        "analyze_seconds": analysis,
        "compact_seconds": compaction,
        "analyze_ms_per_layer": 1e3 * analysis / count,
        "compact_ms_per_layer": 1e3 * compaction / count,
    }


def define_flags() -> None:
    """What to measure, and where to write."""
    flags.DEFINE_multi_enum(
        "network",
        NETWORKS,
        (*applications.NAMES, *hub.FULL_SIZE),
        "Network to measure (repeatable).",
    )
    flags.DEFINE_integer("pairs", 9, "Pairs per network.", lower_bound=1)
    flags.DEFINE_list(
        "depths",
        ["164", "326", "650", "1001"],
        "Depths 9n + 2 of the ResNets; may be empty.",
    )
    flags.DEFINE_list(
        "blocks", ["6", "12", "24", "48"], "Depths of the ViTs; may be empty."
    )
    flags.DEFINE_string(
        "output", None, "Directory for compaction.json; none if not given."
    )


def _integers(flag: str) -> list[int]:
    try:
        return [int(value) for value in flags.FLAGS[flag].value]
    except ValueError as error:
        raise ValueError(f"--{flag} must be integers: {error}") from error


def main(_: list[str]) -> None:
    """Measures, prints, and writes the file."""
    depths = [
        (architecture, depth)
        for architecture, name in (("ResNet", "depths"), ("ViT", "blocks"))
        for depth in _integers(name)
    ]
    console = Console()
    networks = []
    for name in flags.FLAGS.network:
        networks.append(compare(name, flags.FLAGS.pairs))
        keras.utils.clear_session()
    show(console, "analyze + compact, over clone_model + set_weights", networks)
    chains = []
    for architecture, depth in track(depths, description="chains"):
        chains.append(deepen(architecture, depth))
        keras.utils.clear_session()
    show(console, "deeper and deeper networks", chains)
    if flags.FLAGS.output:
        path = pathlib.Path(flags.FLAGS.output) / "compaction.json"
        result = {"machine": environment(), "networks": networks, "chains": chains}
        write_text(path, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
