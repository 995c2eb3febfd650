"""A table of small networks: what each is worth, and the commands that make it.

    python -m experiments.train --dataset=digits --quantize=int8 --output_dir=runs/toy
    python -m experiments.studies.model_table runs/toy --output=experiments/results

Takes finished runs of experiments.train or experiments.sweep that have written TFLite
files of both networks and an int8 one. Accuracies are those of the files, on all test
images. Files are timed together, in turns, one image and one thread. Adds the rows to
models.json in --output, in the place of those that the same commands made, and writes
models.md from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ai_edge_litert.interpreter import Interpreter
from rich import filesize

from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.run.settings import RunSettings
from pgmpf_tf.exporting.formats.parts import any_numbers, in_turns
from pgmpf_tf.exporting.formats.tflite import TFLite

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
        folder: of a finished run.

    Returns:
        `commands`, that of the run last, `network`, `dataset`, `images` (trained on),
        `method`, `removed` (the rate or the budget), `macs` and `params` of the dense
        and the small network, and of each file of `FILES` its `accuracy`,
        `milliseconds`, `bytes` and `sha256`.

    Raises:
        ValueError: it is no finished run, lacks one of the files, or started from a
            network that no run has trained.
    """
    paths = {name: folder / "exports" / path for name, path in FILES.items()}
    missing = [
        str(path)
        for path in (folder / "result.json", *paths.values())
        if not path.is_file()
    ]
    if missing:
        raise ValueError(
            f"{str(folder)!r} must be a finished run with TFLite files "
            "(--formats=tflite --quantize=int8). Received: a folder without "
            f"{', '.join(missing)}"
        )
    result = _result(folder)
    settings = RunSettings.from_json(result["settings"])
    trained = _trained_in(folder, settings)
    dense = _result(trained)
    dense_settings = RunSettings.from_json(dense["settings"])
    runs = (dense_settings, trained), (settings, folder)
    commands = dict.fromkeys(command(*run) for run in runs)
    networks = [result[name] for name in ("dense", "small")]
    accuracies = [network["tflite_accuracy"] for network in networks]
    accuracies.append(result["quantized_accuracy"])
    files = {
        name: {
            "accuracy": accuracy,
            "milliseconds": 1e3 * seconds,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for (name, path), accuracy, seconds in zip(
            paths.items(), accuracies, _seconds([*paths.values()]), strict=True
        )
    }
    return {
        "commands": list(commands),
        "network": settings.model,
        "dataset": settings.dataset,
        "images": dense["cost"]["dense"]["images"] // dense_settings.dense_epochs,
        "method": settings.method,
        "removed": ", ".join(settings.budget) or f"rate {settings.rate}",
        "macs": [network["macs"] for network in networks],
        "params": [network["params"] for network in networks],
        "files": files,
        "environment": evaluation.environment(),
    }


def _result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return content


def _trained_in(folder: Path, settings: RunSettings) -> Path:
    """The folder of the run that trained the dense network which this one pruned."""
    if settings.baseline is None:
        return folder
    trained = Path(settings.baseline).parent
    finished = (trained / "result.json").is_file()
    if finished and _result(trained)["settings"]["baseline"] is None:
        return trained
    raise ValueError(
        f"The run {str(folder)!r} must have trained its dense network, or have it from "
        f"a run that did. Received: baseline={settings.baseline!r}"
    )


def command(settings: RunSettings, folder: Path) -> str:
    """The command line of a run, without what is a default and where data are."""
    default = RunSettings()
    given = [f"--output_dir={_shown(folder)}"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in _PLACES or value == getattr(default, field.name):
            continue
        if field.name == "baseline":
            value = _shown(Path(value).parent) / Path(value).name
        shown = ",".join(value) if isinstance(value, tuple) else value
        given.append(f"--{field.name}={shown}")
    return shlex.join(["python", "-m", "experiments.train", *given])


def _shown(folder: Path) -> Path:
    """A run's folder as a reader may have it."""
    return Path("runs") / folder.name if folder.is_absolute() else folder


def _seconds(paths: Sequence[Path]) -> list[float]:
    """What an inference of each file takes; the model of the first tells its inputs."""
    details = Interpreter(str(paths[0])).get_signature_runner().get_input_details()
    arrays = {name: any_numbers(d["shape"], d["dtype"]) for name, d in details.items()}
    calls = [TFLite().inference(path, arrays) for path in paths]
    return in_turns(calls, time.process_time, _TURN_SECONDS)


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
        first, *others = row["commands"]
        lines += ["", f"{number}. `{first}`", *(f"   `{s}`" for s in (*others, *sums))]
    return "\n".join(lines) + "\n"


def merged(known: Sequence[Row], made: Sequence[Row]) -> list[Row]:
    """Rows in the order of their commands; new ones in the place of old ones."""
    rows = {tuple(row["commands"]): row for row in (*known, *made)}
    return [
        rows[commands]
        for commands in sorted(rows, key=lambda key: (rows[key]["dataset"], key))
    ]


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
