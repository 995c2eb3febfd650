"""A compacted network beside the same architecture built narrow, as TFLite files.

    python -m experiments.benchmarks.narrow --output=experiments/results

A ViT and a ConvNeXt for small images are pruned by half and compacted. The same network
built with half of the heads, neurons and channels has as many layers of the same sizes;
it differs in its LayerNormalizations, which know of no channels that are gone. The two
take turns, and medians are compared. The operations that one file has more of than the
other stand beside them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import flags
from rich.console import Console

import pgmpf_tf
from experiments.benchmarks.latency import take_turns
from experiments.benchmarks.measuring import show
from experiments.benchmarks.tflite_operations import operation_counts
from experiments.networks import sized
from experiments.run.evaluation import environment
from experiments.run.launching import launch
from pgmpf_tf._files import write_text
from pgmpf_tf.exporting.formats.tflite import TFLite

REPEATS = 5
"""How often all rounds are repeated: a ratio of medians for each."""

_KINDS = ("dense", "small", "narrow")
_VIT = {"width": 96, "heads": 6, "hidden": 192}
_CONVNEXT = {"widths": (32, 64, 128), "hidden": (128, 256, 512)}


def vit(kept: float = 1.0) -> keras.Model:
    """The ViT of six blocks and 65 tokens, with a part of its heads and widths."""
    sizes: dict[str, Any] = {k: round(kept * size) for k, size in _VIT.items()}
    return sized.vit(**sizes)


def convnext(kept: float = 1.0) -> keras.Model:
    """The ConvNeXt of six blocks, with a part of its widths."""
    sizes: dict[str, Any] = {
        name: tuple(round(kept * size) for size in sizes)
        for name, sizes in _CONVNEXT.items()
    }
    return sized.convnext(**sizes)


NETWORKS = {"ViT": vit, "ConvNeXt": convnext}


def small(name: str, rate: float) -> keras.Model:
    """What pruning leaves of a network."""
    keras.utils.set_random_seed(0)
    pruned = pgmpf_tf.wrap(NETWORKS[name](), rate, seed=0)
    pruned.apply_masks()
    return pgmpf_tf.compact(pruned)


def files(name: str, rate: float, folder: Path) -> dict[str, Path]:
    """The TFLite files of a network: dense, compacted and built narrow."""
    built = NETWORKS[name]
    models = {
        "dense": built(),
        "small": small(name, rate),
        "narrow": built(1 - rate),
    }
    return {
        kind: pgmpf_tf.export(
            model,
            folder / name / kind,
            "tflite",
            batch_size=1,
            min_agreement=0.0,
            verbose=False,
        )["tflite"].path
        for kind, model in models.items()
    }


def compare(name: str, rate: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Medians of the three files while they take turns, and their operations.

    Args:
        name: one of `NETWORKS`.
        rate: the fraction of heads, neurons and channels to remove.
        rounds: turns of each file.
        folder: where the files are written.
    """
    paths = files(name, rate, folder)
    image = {"image": np.random.default_rng(0).normal(size=(1, 32, 32, 3))}
    image = {key: value.astype("float32") for key, value in image.items()}
    calls = [TFLite().inference(paths[kind], image) for kind in _KINDS]
    repeated = np.array([take_turns(calls, rounds) for _ in range(REPEATS)])
    ratios = repeated[:, _KINDS.index("small")] / repeated[:, _KINDS.index("narrow")]
    times = dict(zip(_KINDS, np.median(repeated, 0).tolist(), strict=True))
    counts = {kind: operation_counts(path) for kind, path in paths.items()}
    return {
        "network": name,
        **{f"{kind}_ms": median for kind, median in times.items()},
        "small_by_narrow": float(np.median(ratios)),
        "ratio_range": [float(ratios.min()), float(ratios.max())],
        "bytes": {kind: path.stat().st_size for kind, path in paths.items()},
        "operations": {kind: sum(count.values()) for kind, count in counts.items()},
        "more_in_small": dict(Counter(counts["small"]) - Counter(counts["narrow"])),
        "more_in_narrow": dict(Counter(counts["narrow"]) - Counter(counts["small"])),
    }


def define_flags() -> None:
    """What to measure, and where to write."""
    names = list(NETWORKS)
    flags.DEFINE_multi_enum("network", names, names, "Network (repeatable).")
    flags.DEFINE_float("rate", 0.5, "Fraction to remove.")
    flags.DEFINE_integer("rounds", 60, "Turns of each file.", lower_bound=3)
    flags.DEFINE_string("work_dir", "runs/narrow", "Where the files are written.")
    flags.DEFINE_string("output", None, "Directory for narrow.json; none if not given.")


def main(_: list[str]) -> None:
    """Measures, prints, and writes the file."""
    given = flags.FLAGS
    load = [os.getloadavg()[0]]
    rows = [
        compare(name, given.rate, given.rounds, Path(given.work_dir))
        for name in dict.fromkeys(given.network)
    ]
    load.append(os.getloadavg()[0])
    shown = ("network", *(f"{kind}_ms" for kind in _KINDS), "small_by_narrow")
    shown = (*shown, "ratio_range")
    console = Console()
    show(console, "TFLite", [{name: row[name] for name in shown} for row in rows])
    for row in rows:
        for which in ("more_in_small", "more_in_narrow"):
            console.print(f"{row['network']}, {which}: {row[which]}")
    if given.output:
        content = {"machine": environment(), "load": load, "rate": given.rate}
        path = Path(given.output) / "narrow.json"
        text = json.dumps(content | {"networks": rows}, indent=1) + "\n"
        write_text(path, text)


if __name__ == "__main__":
    launch(main, define_flags)
