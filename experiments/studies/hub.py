"""Backbones of KerasHub at toy size, pruned by half and compacted; a table of them.

`python -m experiments.studies.architectures --set=keras_hub` runs this. Each backbone
has random weights and a head of 5 logits. Deviation: the largest difference between the
outputs of the masked and the small model on three samples, over the largest output.
Every result is written as soon as it is there; the same command goes on from there.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

import pgmpf_tf
from experiments.networks import hub
from experiments.run.evaluation import deviation, environment
from experiments.studies.measuring import pinned, timed
from pgmpf_tf._files import write_text
from pgmpf_tf.channels.analysis import analyze

RATE = 0.5


def measure(name: str) -> dict[str, Any]:
    """A row of the table, as a dictionary that JSON can hold."""
    model = hub.build(name)
    masked = pgmpf_tf.wrap(model, rate=RATE, seed=0)
    masked.apply_masks()
    small, seconds = timed(lambda: pgmpf_tf.compact(masked))
    inputs = hub.samples(model, 3, seed=1)
    found, expected = (np.asarray(m(inputs, training=False)) for m in (small, masked))
    return {
        "name": name,
        "macs": [pgmpf_tf.profile(m).macs for m in (model, small)],
        "params": [m.count_params() for m in (model, small)],
        "stays": pinned(analyze(model)),
        "own_layers": sorted(
            {
                type(layer).__name__
                for layer in small.layers
                if not type(layer).__module__.startswith("keras.src.")
            }
        ),
        "deviation": deviation(found, expected),
        "compact_seconds": seconds,
    }


def run(folder: Path) -> str:
    """Measures what is missing; writes keras_hub.json and keras_hub.md.

    Args:
        folder: where they lie.

    Returns:
        The table.
    """
    path = folder / "keras_hub.json"
    rows = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []
    done = {row["name"] for row in rows}
    for name in hub.NAMES:
        if name in done:
            continue
        keras.utils.clear_session()
        gc.collect()
        rows.append(measure(name))
        found = {"rate": RATE, "environment": environment(), "rows": rows}
        write_text(path, json.dumps(found, indent=1) + "\n")
    text = table(rows)
    write_text(folder / "keras_hub.md", text)
    return text


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "# Backbones of KerasHub, pruned and compacted",
        "",
        "Written by `python -m experiments.studies.architectures --set=keras_hub`. Toy "
        f"sizes, random weights, rate {RATE}, grouped, criterion `l2`. Deviation: the "
        "largest difference between the outputs of the masked and the small model, "
        "over the largest output.",
        "",
        "| backbone | MACs, dense | small | left | filters that stay, beside outputs "
        "| layers that are not stock Keras | deviation | compact (s) |",
        "| --- |" + " ---: |" * 3 + " --- | --- | ---: | ---: |",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    dense, small = row["macs"]
    stays = ", ".join(
        f"{reason} {count}"
        for reason, count in row["stays"].items()
        if reason != "output" and count  # a layer without a rule has a name
    )
    cells = [
        row["name"],
        f"{dense:,}",
        f"{small:,}",
        f"{small / dense:.0%}",
        stays or "none",
        ", ".join(row["own_layers"]) or "none",
        f"{row['deviation']:.1e}",
        f"{row['compact_seconds']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"
