"""Many networks at toy size, pruned by half and compacted; tables of them.

    python -m experiments.studies.architectures --set=keras_hub
    python -m experiments.studies.architectures --set=written --deploy

All have random weights. Deviation: the largest difference between the outputs of the
masked and the small model at two batch sizes, over the largest entry of each output.
With --deploy each small model is also trained for a step, loaded in a process without
pgmpf_tf, and exported; what fails is exported dense as well. Every result is written as
soon as it is there; the same command goes on from there.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import tree

import pgmpf_tf
from experiments.networks import hub, hub_tasks, written_sequences
from experiments.run.evaluation import environment
from experiments.studies.elsewhere import Elsewhere
from experiments.studies.measuring import pinned, timed
from pgmpf_tf._files import write_text
from pgmpf_tf.channels.analysis import analyze

RATE = 0.5
BATCHES = (3, 5)
BOUND = 1e-5


@dataclass(frozen=True)
class Set:
    """Networks that a table is made of.

    Attributes:
        name: of the files.
        title: of the table.
        networks: by its name, what builds each, with random weights.
        note: what the table says of them besides.
    """

    name: str
    title: str
    networks: Mapping[str, Callable[[], keras.Model]]
    note: str = ""


def _written(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    def randomized() -> keras.Model:
        model = build()
        hub.randomize(model)
        return model

    return randomized


SETS = {
    "keras_hub": Set(
        "keras_hub",
        "Backbones and tasks of KerasHub, pruned and compacted",
        {name: lambda name=name: hub.build(name) for name in hub.NAMES}
        | {name: lambda name=name: hub_tasks.build(name) for name in hub_tasks.TASKS},
        "Most toys are 16 to 32 channels wide. ViT, DeiT, DINO, CLIP, SigLIP and "
        "MobileNet have at least 64: in narrower ones what reads the image, of which "
        "only the outputs can go, would be a third to a half of the cost.",
    ),
    "written": Set(
        "written",
        "Networks as people write them, pruned and compacted",
        {name: _written(make) for name, make in written_sequences.NETWORKS.items()},
    ),
}


def measure(build: Callable[[], keras.Model], name: str = "") -> dict[str, Any]:
    """A row of a table, as a dictionary that JSON can hold.

    Args:
        build: makes the network.
        name: what the table calls it.
    """
    return _measure(build(), name)[0]


def _measure(model: keras.Model, name: str) -> tuple[dict[str, Any], keras.Model]:
    stays = pinned(analyze(model))
    dense = pgmpf_tf.profile(model)
    masked = pgmpf_tf.wrap(model, rate=RATE, seed=0)
    masked.apply_masks()
    small, seconds = timed(lambda: pgmpf_tf.compact(masked))
    found = [_deviation(masked, small, count) for count in BATCHES]
    cost = pgmpf_tf.profile(small)
    row = {
        "name": name,
        "macs": [dense.macs, cost.macs],
        "params": [dense.params, cost.params],
        "stays": stays,
        "own_layers": own_layers(small),
        "deviation": max(deviation for deviation, _ in found),
        "conditioning": max(amplified for _, amplified in found),
        "compact_seconds": seconds,
    }
    return row, small


def own_layers(model: keras.Model) -> list[str]:
    """The classes of a model's layers that are not Keras' own."""
    return sorted(
        {
            type(layer).__name__
            for layer in model.layers
            if not type(layer).__module__.startswith("keras.src.")
        }
    )


def _outputs(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    return [
        np.asarray(keras.ops.convert_to_numpy(y)).astype("float64")
        for y in tree.flatten(model(inputs, training=False))
    ]


def _apart(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The largest difference, over the largest entry of each output."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        scale = max(float(np.max(np.abs(b), initial=0)), 1e-9)
        worst = max(worst, float(np.max(np.abs(a - b), initial=0)) / scale)
    return worst


def _deviation(
    masked: keras.Model, small: keras.Model, count: int
) -> tuple[float, float]:
    """How far the small model is, and how far a last bit of the weights leads."""
    inputs = hub.samples(masked, count, seed=count)
    expected = _outputs(masked, inputs)
    found = _apart(_outputs(small, inputs), expected)
    weights = masked.get_weights()
    masked.set_weights(
        [np.nextafter(w, w * 2) if w.dtype.kind == "f" else w for w in weights]
    )
    amplified = _apart(_outputs(masked, inputs), expected)
    masked.set_weights(weights)
    return found, amplified


def deploy(
    build: Callable[[], keras.Model], small: keras.Model, elsewhere: Elsewhere
) -> dict[str, Any]:
    """What becomes of a small network.

    Returns:
        `elsewhere`, `saved_model`, `tflite`: the deviation, or why there is none;
        `trains`: whether a step changes all weights that it can, or why not.
    """
    ways: dict[str, Callable[[keras.Model], Any]] = {
        "elsewhere": elsewhere.deviation,
        "saved_model": lambda model: _exported(model, "saved_model"),
        "tflite": lambda model: _exported(model, "tflite"),
        "trains": _trains,
    }
    found = {}
    for name, way in ways.items():
        found[name] = _tried(way, lambda: small)
        if isinstance(found[name], str) and isinstance(_tried(way, build), str):
            found[name] = f"nor the dense one: {found[name]}"
    return found


def _tried(work: Callable[[keras.Model], Any], build: Callable[[], keras.Model]) -> Any:
    """What becomes of a network, or the first line of what went wrong."""
    try:
        return work(build())
    except Exception as error:  # it is what the table tells
        return _in_a_line(error)


def _in_a_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def _exported(model: keras.Model, format: str) -> float:
    flat = tree.flatten(hub.samples(model, BATCHES[0], seed=2))
    # TFLite holds the states of recurrent layers in arrays of a fixed size.
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    recurrent = any(isinstance(layer, kinds) for layer in model._flatten_layers())
    with tempfile.TemporaryDirectory() as folder:
        report = pgmpf_tf.export(
            model,
            folder,
            (format,),
            verification_data={
                x.name: values for x, values in zip(model.inputs, flat, strict=True)
            },
            batch_size=BATCHES[0] if recurrent else None,
            tolerance=1e9,  # it is for the table to tell
            min_agreement=0.0,
            verbose=False,
        )
        return max(error.max_deviation for error in report.artifacts[0].outputs)


def _trains(model: keras.Model) -> bool:
    inputs = hub.samples(model, 4, seed=3)
    before = [np.array(weight) for weight in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1e-2), "mse", run_eagerly=True)
    targets = tree.map_structure(keras.ops.ones_like, model(inputs))
    loss = float(np.ravel(model.train_on_batch(inputs, targets))[0])
    changed = sum(
        bool((np.asarray(weight) != old).any())
        for weight, old in zip(model.trainable_variables, before, strict=True)
    )
    return bool(np.isfinite(loss)) and changed > len(before) / 2


def run(kind: Set, folder: Path, names: Sequence[str], deployed: bool) -> str:
    """Measures what is missing; writes NAME.json and NAME.md.

    Args:
        kind: the networks.
        folder: where the files lie.
        names: those to measure; all of them if there are none.
        deployed: whether to export, load and train each of them as well.

    Returns:
        The table.
    """
    path = folder / f"{kind.name}.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {"rows": []}
    rows = {row["name"]: row for row in known["rows"]}
    failed = dict(known.get("failed", {}))
    with Elsewhere() as elsewhere:
        for name in names or kind.networks:
            if name in rows and ("deployed" in rows[name] or not deployed):
                continue
            keras.utils.clear_session()
            gc.collect()
            try:
                rows[name] = _row(
                    kind.networks[name], name, elsewhere if deployed else None
                )
                failed.pop(name, None)
            except Exception as error:  # the others are measured all the same
                failed[name] = _in_a_line(error)
            found = {
                "rate": RATE,
                "environment": environment(),
                "rows": [rows[n] for n in kind.networks if n in rows],
                "failed": failed,
            }
            write_text(path, json.dumps(found, indent=1) + "\n")
    ordered = [rows[name] for name in kind.networks if name in rows]
    text = table(kind, ordered, failed)
    write_text(folder / f"{kind.name}.md", text)
    return text


def _row(
    build: Callable[[], keras.Model], name: str, elsewhere: Elsewhere | None
) -> dict[str, Any]:
    row, small = _measure(build(), name)
    if elsewhere is not None:
        row["deployed"] = deploy(build, small, elsewhere)
    return row


def table(
    kind: Set,
    rows: Sequence[dict[str, Any]],
    failed: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The results as Markdown.

    Args:
        kind: the networks.
        rows: what `measure` found of each.
        failed: what went wrong, by network, where there is no row.
    """
    lines = [
        f"# {kind.title}",
        "",
        f"Written by `python -m experiments.studies.architectures --set={kind.name} "
        f"--deploy`. Toy sizes, random weights, rate {RATE}, grouped, criterion `l2`. "
        "Deviation: the largest difference between the outputs of the masked and the "
        f"small model at batch sizes {BATCHES[0]} and {BATCHES[1]}, over the largest "
        "entry of each output. Elsewhere: the same for the file of the small model, "
        "loaded in a process without this package; SavedModel and TFLite: for what "
        "was exported. Trains: a step changes its weights."
        + (f" {kind.note}" if kind.note else ""),
        "",
        "| network | MACs, dense | small | left | filters that stay, beside outputs "
        "| layers that are not stock Keras | deviation | elsewhere | SavedModel "
        "| TFLite | trains | compact (s) |",
        "| --- |" + " ---: |" * 3 + " --- | --- |" + " ---: |" * 4 + " --- | ---: |",
        *map(_line, rows),
        *_notes(rows, failed),
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    dense, small = row["macs"]
    stays = ", ".join(
        f"{reason} {count}"
        for reason, count in row["stays"].items()
        if reason != "output" and count  # a layer without a rule has a name
    )
    deployed = row.get("deployed", {})
    cells = [
        row["name"],
        f"{dense:,}",
        f"{small:,}",
        f"{small / dense:.0%}" if dense else "",
        stays or "none",
        ", ".join(row["own_layers"]) or "none",
        f"{row['deviation']:.1e}",
        *(_figure(deployed.get(k)) for k in ("elsewhere", "saved_model", "tflite")),
        {True: "yes", None: ""}.get(deployed.get("trains"), "no"),
        f"{row['compact_seconds']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _figure(found: Any) -> str:
    if found is None:
        return ""
    return f"{found:.1e}" if not isinstance(found, str) else "no"


def _notes(rows: Sequence[dict[str, Any]], failed: Mapping[str, str]) -> list[str]:
    """Why there is no figure where there is none."""
    lines = [f"- {name}: {reason}." for name, reason in failed.items()]
    lines += [
        f"- {row['name']}, {what}: {found}."
        for row in rows
        for what, found in row.get("deployed", {}).items()
        if isinstance(found, str)
    ]
    return ["", "## What fails", "", *lines] if lines else []
