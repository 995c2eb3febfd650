"""A table of small networks: what each is worth, and the command that makes it.

    python -m experiments.train --dataset=digits --quantize=int8 --output_dir=runs/toy
    python -m experiments.studies.model_table runs/toy --output=experiments/results

Takes finished runs of experiments.train that have written TFLite files of both networks
and an int8 one. Accuracies are those of the files, on all test images. Files are timed
together, in turns, one image and one thread. Adds the rows to models.json in --output,
in the place of those that the same commands made, and writes models.md from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ai_edge_litert.interpreter import Interpreter
from rich import filesize

import pgmpf_tf
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.run.settings import RunSettings
from pgmpf_tf.exporting.formats.parts import in_turns

Row = dict[str, Any]

FILES = {
    "dense": "dense/model.tflite",
    "small": "compacted/model.tflite",
    "int8": "compacted/model_int8.tflite",
}
"""The files of a run that are held against each other, below its exports."""

_PLACES = ("data_dir", "tfds_dir")
"""Settings that say where data are: everybody's own."""

_TURN_SECONDS = 5e-3


def row_of(folder: Path) -> Row:
    """What is said of a run.

    Args:
        folder: of a finished run of experiments.train.

    Returns:
        `command`, `network`, `dataset`, `images` (trained on), `method`, `removed` (the
        rate or the budget), `macs` and `params` of the dense and the small network,
        and of each file of `FILES` its `accuracy`, `milliseconds`, `bytes` and
        `sha256`.

    Raises:
        ValueError: it is no finished run, lacks one of the files, or started from a
            network that its command does not make.
    """
    settings, data, networks = evaluation.finished_run(folder)
    if settings.baseline is not None:
        raise ValueError(
            f"The run {str(folder)!r} must have trained its dense network itself. "
            f"Received: baseline={settings.baseline!r}"
        )
    paths = {name: folder / "exports" / path for name, path in FILES.items()}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise ValueError(
            f"The run {str(folder)!r} must have written TFLite files (--formats=tflite "
            f"--quantize=int8). Received: a run without {', '.join(missing)}"
        )
    costs = [pgmpf_tf.profile(networks[name]) for name in ("dense", "small")]
    images, labels = evaluation.test_set(data, settings.batch_size)
    calls = [_inference(path, images[:1]) for path in paths.values()]
    seconds = in_turns(calls, time.process_time, _TURN_SECONDS)
    return {
        "command": command(settings, folder),
        "network": settings.model,
        "dataset": settings.dataset,
        "images": data.train_size,
        "method": settings.method,
        "removed": ", ".join(settings.budget) or f"rate {settings.rate}",
        "macs": [cost.macs for cost in costs],
        "params": [cost.params for cost in costs],
        "files": {
            name: {
                "accuracy": _accuracy(path, images, labels, settings.batch_size),
                "milliseconds": 1e3 * each,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for (name, path), each in zip(paths.items(), seconds, strict=True)
        },
        "environment": evaluation.environment(),
    }


def command(settings: RunSettings, folder: Path) -> str:
    """The command line of a run, without what is a default and where data are."""
    default = RunSettings()
    given = [f"--output_dir=runs/{folder.name}"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in _PLACES or value == getattr(default, field.name):
            continue
        shown = ",".join(value) if isinstance(value, tuple) else value
        given.append(f"--{field.name}={shown}")
    return shlex.join(["python", "-m", "experiments.train", *given])


def _inference(path: Path, image: np.ndarray) -> Callable[[], object]:
    interpreter = Interpreter(str(path), num_threads=1)
    (port,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(port["index"], image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(port["index"], image)
    return interpreter.invoke


def _accuracy(
    path: Path, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> float:
    outputs = evaluation.tflite_outputs(path, images, batch_size)
    return evaluation.accuracy(outputs, labels)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, and the commands that make the networks."""
    environment = rows[0]["environment"]
    lines = [
        "# Small networks",
        "",
        "`python -m experiments.studies.model_table`. Accuracy of TFLite files on all "
        "test images in percent; one image on one thread, processor time, lower "
        f"quartile of turns that the files take together ({environment['cores']} "
        f"cores, {environment['cpu']}, LiteRT {environment['ai-edge-litert']}).",
        "",
        "| | network | data | method | MACs | parameters | accuracy before | after | "
        "int8 | ms before | after | int8 | file | int8 |",
        "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | "
        "---: | ---: | ---: |",
    ]
    for number, row in enumerate(rows, start=1):
        files = [row["files"][name] for name in FILES]
        macs, params = (
            f"{small:,} ({small / dense - 1:.0%})"
            for dense, small in (row["macs"], row["params"])
        )
        cells = [
            str(number),
            row["network"],
            f"{row['dataset']}, {row['images']:,} images",
            f"{row['method']}, {row['removed']}",
            macs,
            params,
            *(f"{100 * file['accuracy']:.2f}" for file in files),
            *(f"{file['milliseconds']:.3f}" for file in files),
            *(filesize.decimal(file["bytes"]) for file in files[1:]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "What makes them (with `--tfds_dir` or `--data_dir` where data are elsewhere), "
        "and SHA-256 of `exports/compacted/model.tflite` and `model_int8.tflite` as "
        "they came out here; training on other machines rounds otherwise.",
    ]
    for number, row in enumerate(rows, start=1):
        sums = [row["files"][name]["sha256"] for name in ("small", "int8")]
        lines += ["", f"{number}. `{row['command']}`", *(f"   `{s}`" for s in sums)]
    return "\n".join(lines) + "\n"


def merged(known: Sequence[Row], made: Sequence[Row]) -> list[Row]:
    """Rows in the order of their commands; new ones in the place of old ones."""
    rows = {row["command"]: row for row in (*known, *made)}
    return sorted(rows.values(), key=lambda row: (row["dataset"], row["command"]))


def define_flags() -> None:
    """Where to."""
    flags.DEFINE_string("output", "experiments/results", "Where to write.")


def main(arguments: list[str]) -> None:
    """Adds runs to the table."""
    output = flags.FLAGS.output
    path = Path(output) / "models.json"
    known = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []
    rows = merged(known, [row_of(Path(folder)) for folder in arguments])
    evaluation.write_results(output, "models", markdown(rows), {"rows": rows})


if __name__ == "__main__":
    launch(main, define_flags, arguments=(1, 100))
