"""Multiply-accumulates that pruning really removes, beside the published figures.

    python -m experiments.studies.flops_table

Masks and compacts the paper's CIFAR networks (and ResNet-50) at every published rate,
and counts the multiply-accumulates of the convolutions in the small networks. Results
are kept as they come: a run that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import flags
from rich.progress import track

import pgmpf_tf
from experiments.networks import models
from experiments.run.launching import launch
from pgmpf_tf._files import write_text
from pgmpf_tf.scores.ranking import kept_count

# Percent removed in theory: L. Cai et al., AAAI 2022, and the figures beside it.
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
PUBLISHED = {
    "resnet20": (15.2, 29.3, 42.2, 54.0, 64.6, 82.2),
    "resnet32": (14.9, 28.8, 41.5, 53.2, 63.7, 81.5),
    "resnet56": (14.7, 28.4, 41.1, 52.6, 63.2, 81.1),
    "resnet110": (14.6, 28.2, 40.8, 52.3, 62.8, 80.8),
    "resnet50": (None, None, None, 53.5, None, None),
}
COUPLINGS = ("independent", "grouped")
# The paper leaves the convolutions on ResNet-50's shortcuts alone.
SHORTCUTS = {"resnet50": ("*_0_conv",)}


def count(name: str, coupling: str, rate: float) -> dict[str, int]:
    """Multiply-accumulates of the convolutions before and after.

    Args:
        name: a network of `PUBLISHED`.
        coupling: see `pgmpf_tf.wrap`.
        rate: the fraction of filters to remove.

    Returns:
        `dense` and `small`.
    """
    keras.utils.set_random_seed(0)
    imagenet = name == "resnet50"
    model = models.build(
        name,
        input_shape=(224, 224, 3) if imagenet else (32, 32, 3),
        num_classes=1000 if imagenet else 10,
    )
    _randomize_batchnorm(model)
    dense = pgmpf_tf.profile(model).conv_macs
    exclude = SHORTCUTS.get(name, ()) if coupling == "independent" else ()
    pruned = pgmpf_tf.wrap(
        model, rate, method="hard", coupling=coupling, exclude=exclude
    )
    pruned.apply_masks()
    small = pgmpf_tf.profile(pgmpf_tf.compact(pruned)).conv_macs
    keras.utils.clear_session()
    return {"dense": dense, "small": small}


def whole_filters(name: str, rate: float) -> float:
    """The published count, had it known that a layer loses whole filters only.

    Every convolution of a CIFAR ResNet loses `floor(n * rate)` of its n filters; the
    residual stream keeps its width, except that the first block sees what is left of
    the stem.

    Args:
        name: a network of `experiments.networks.models.CIFAR_RESNETS`.
        rate: the fraction of filters to remove.

    Returns:
        Percent of the multiply-accumulates removed.
    """

    def kept(filters: int) -> int:
        return kept_count(filters, rate)

    dense, small = 32**2 * 27 * 16, 32**2 * 27 * kept(16)
    width, seen = 16, kept(16)
    for stage, filters in enumerate((16, 32, 64)):
        positions = 9 * (32 // 2**stage) ** 2
        for _ in range((models.CIFAR_RESNETS[name] - 2) // 6):
            dense += positions * filters * (width + filters)
            small += positions * kept(filters) * (seen + kept(filters))
            width = seen = filters
    return 100 * (1 - small / dense)


def _randomize_batchnorm(model: keras.Model) -> None:
    """A trained network's offsets are not zero; zeros would look like dead channels."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in (layer.beta, layer.moving_mean):
                variable.assign(random.normal(size=variable.shape))


def published_rows(networks: list[str]) -> Iterator[tuple[str, str, float, float]]:
    """Every network, coupling and rate with its published percentage."""
    for name in networks:
        for coupling in COUPLINGS:
            for rate, percent in zip(RATES, PUBLISHED[name], strict=True):
                if percent is not None:
                    yield name, coupling, rate, percent


def markdown(records: list[dict[str, Any]]) -> str:
    """The records as a table, a row per network and coupling."""
    heading = ["network", "coupling", *(f"P = {rate}" for rate in RATES)]
    lines = [
        "# Multiply-accumulates removed by compaction",
        "",
        "`python -m experiments.studies.flops_table`: percent of the convolutions' "
        "multiply-accumulates that are gone from the compacted network (published, in "
        "theory, when the residual stream keeps its width; the same with whole "
        "filters). More is gone where channels of the stream itself are dead.",
        "",
        f"| {' | '.join(heading)} |",
        f"|{' --- |' * len(heading)}",
    ]
    rows: dict[tuple[str, str], dict[float, str]] = {}
    for record in records:
        removed = 100 * (1 - record["small"] / record["dense"])
        cells = rows.setdefault((record["network"], record["coupling"]), {})
        theory = f"{record['published']:.1f}"
        if record["network"] in models.CIFAR_RESNETS:
            theory += f"; {whole_filters(record['network'], record['rate']):.1f}"
        cells[record["rate"]] = f"{removed:.1f} ({theory})"
    for (name, coupling), cells in rows.items():
        values = [cells.get(rate, "") for rate in RATES]
        lines.append(f"| {name} | {coupling} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to count, and where to write."""
    flags.DEFINE_string(
        "results_dir", "experiments/results", "Folder of flops.json and flops.md."
    )
    flags.DEFINE_list("networks", list(PUBLISHED), "Networks to count.")


def main(_: list[str]) -> None:
    """Counts what is not in `flops.json` yet, and writes the table."""
    unknown = sorted(set(flags.FLAGS.networks) - set(PUBLISHED))
    if unknown:
        raise ValueError(
            f"--networks may be {', '.join(PUBLISHED)}. Received: {', '.join(unknown)}"
        )
    folder = Path(flags.FLAGS.results_dir)
    path = folder / "flops.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else []
    done = {(r["network"], r["coupling"], r["rate"]): r for r in known}
    rows = list(published_rows(list(PUBLISHED)))
    wanted = [
        row for row in rows if row[0] in flags.FLAGS.networks and row[:3] not in done
    ]
    for name, coupling, rate, percent in track(wanted, "pruning and compacting"):
        done[name, coupling, rate] = {
            "network": name,
            "coupling": coupling,
            "rate": rate,
            "published": percent,
        } | count(name, coupling, rate)
        records = [done[row[:3]] for row in rows if row[:3] in done]
        write_text(path, json.dumps(records, indent=1) + "\n")
    text = markdown([done[row[:3]] for row in rows if row[:3] in done])
    write_text(folder / "flops.md", text)
    print(text)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
