"""The command line: prunes and exports model files, without a script or labels.

python -m pgmpf_tf profile MODEL.keras
python -m pgmpf_tf compact MODEL.keras SMALL.keras
python -m pgmpf_tf export MODEL.keras DIRECTORY --quantize=int8 --data=SAMPLES.npy
python -m pgmpf_tf measure MODEL.keras --output=TABLE.json --threads=1
python -m pgmpf_tf prune MODEL.keras --budget macs=0.5 --images FOLDER --output OUT

`python -m pgmpf_tf COMMAND --help` explains each.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from pgmpf_tf._files import staged
from pgmpf_tf.budgets.budget import RESOURCES, Budget
from pgmpf_tf.delivery.ranges import RANGES
from pgmpf_tf.delivery.run import prune
from pgmpf_tf.exporting import VerificationError, export, measure
from pgmpf_tf.exporting.formats.registry import FORMATS
from pgmpf_tf.exporting.loading import load_network
from pgmpf_tf.exporting.measuring import RUNTIMES
from pgmpf_tf.exporting.options import precisions
from pgmpf_tf.profiling import Profile, profile
from pgmpf_tf.reporting import compare
from pgmpf_tf.training.shrinking import compact

_FAILED, _INTERRUPTED = 1, 130
"""Exit statuses; argparse itself exits with 2 where the command is misspelled."""

# Wide enough for the tables where there is no terminal to ask.
_OUT = Console(width=None if sys.stdout.isatty() else 120)
_PROGRESS = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command and what follows it; those of the process by default.

    Returns:
        The exit status: 0 if all went well, 1 after an error, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ImportError, OSError, TypeError, ValueError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgmpf_tf", description="Structured pruning for Keras 3, on model files."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_profile, _add_compact, _add_export, _add_measure, _add_prune):
        add(commands)
    return parser


def _add_command(
    commands: Any, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "model",
        type=Path,
        help="a .keras or .h5 file, or the folder of a KerasHub preset",
    )
    command.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module that registers layers of your own (repeatable)",
    )
    command.add_argument(
        "--json", action="store_true", help="print figures as JSON, for machines"
    )
    command.add_argument(
        "--trust", action="store_true", help="run Python code that the file holds"
    )
    return command


def _add_profile(commands: Any) -> None:
    description = """\
What a model costs: multiply-accumulates and parameters, layer by layer and in all."""
    command = _add_command(
        commands, "profile", "count multiply-accumulates and parameters", description
    )
    command.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> None:
    cost = profile(_load(options))
    _print(cost, _profile_figures(cost), options)


def _add_compact(commands: Any) -> None:
    description = """\
Writes the model without the channels that are zero for all inputs or that nothing
reads, and says what that saved. What the model computes stays the same."""
    command = _add_command(
        commands, "compact", "write the model without its dead channels", description
    )
    command.add_argument("small", type=Path, help="the .keras file to write")
    command.set_defaults(run=_compact)


def _compact(options: argparse.Namespace) -> None:
    target = options.small
    if target.suffix != ".keras":
        raise ValueError(
            f"the file to write must end in .keras. Received: {str(target)!r}"
        )
    model = _load(options)
    with _step("compacting"), staged(target.parent) as folder:
        small = compact(model)
        small.save(folder / target.name)
    comparison = compare(model, small)
    figures = {
        "dense": _profile_figures(comparison.dense),
        "small": _profile_figures(comparison.small),
    }
    _print(comparison, figures, options)


def _add_export(commands: Any) -> None:
    description = f"""\
Writes files to deploy. Each is loaded again by the software that will run it, and held
against the model, before any of them gets its name in the directory; a table says how
far they are from the model, how large and how fast.

formats:    {", ".join(FORMATS)}
precisions: {", ".join(precisions())}"""
    command = _add_command(commands, "export", "write files to deploy", description)
    command.add_argument("directory", type=Path, help="where to write")
    command.add_argument(
        "--formats",
        type=lambda text: text.split(","),
        default=["saved_model", "tflite"],
        help="one or several, with commas; saved_model,tflite by default",
    )
    _add_bounds(command)
    command.add_argument(
        "--data",
        type=Path,
        help="samples to set the ranges of integers with and to verify on: a .npy "
        "file, or a .npz file with one array, or with one by the name of each input; "
        "the first axis is the batch. Without it, verification is on random samples",
    )
    command.add_argument("--batch_size", type=int, help="fixes the batch size")
    command.add_argument(
        "--integer_io", action="store_true", help="integers in and out, too"
    )
    command.set_defaults(run=_export)


def _add_bounds(command: argparse.ArgumentParser) -> None:
    """How a file may differ from the network."""
    command.add_argument(
        "--quantize", metavar="PRECISION", help="of the .tflite file, if not float32"
    )
    command.add_argument(
        "--tolerance",
        type=float,
        help="largest deviation of a file from its network, relative to the largest "
        "output; by default 1e-4 for float32 and 1e-2 for float16",
    )
    command.add_argument(
        "--min_agreement",
        type=float,
        help="least fraction of samples on which a file has the top-1 class of its "
        "network; by default 0.9 for quantized files on given samples",
    )


def _export(options: argparse.Namespace) -> None:
    data = None if options.data is None else _load_samples(options.data)
    model = _load(options)
    with _step("exporting", spin=False):
        exports = export(
            model,
            options.directory,
            options.formats,
            quantize=options.quantize,
            representative_data=data,
            batch_size=options.batch_size,
            integer_io=options.integer_io,
            tolerance=options.tolerance,
            min_agreement=options.min_agreement,
        )
    _print(exports, exports.to_dict(), options)


def _add_measure(commands: Any) -> None:
    description = """\
Measures on this machine what the parts of a network take at many widths, and writes a
table by which a budget of latency is met here or anywhere: --latency_table of `prune`,
`Budget(latency=0.5, latency_table="TABLE.json")` in Python. A run that was interrupted
goes on when the command is given again; a table may hold several networks."""
    command = _add_command(
        commands, "measure", "time a network's parts at many widths", description
    )
    command.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the JSON table"
    )
    command.add_argument(
        "--runtime",
        choices=[*RUNTIMES],
        default="tflite",
        help="the software, by the format that it runs: LiteRT, ONNX Runtime or "
        "TensorFlow, on the processor",
    )
    command.add_argument(
        "--precision", default="float32", help="float32, the default; int8 with tflite"
    )
    command.add_argument(
        "--threads", type=int, default=1, help="of an operation; 1 by default"
    )
    command.set_defaults(run=_measure)


def _measure(options: argparse.Namespace) -> None:
    model = _load(options)
    with _step("measuring", spin=False):
        table = measure(
            model,
            options.output,
            runtime=options.runtime,
            precision=options.precision,
            threads=options.threads,
        )
    points = sum(len(times.points) for times in table.times.values())
    figures = {
        "file": str(options.output),
        "parts": len(table.times),
        "points": points,
        "networks": len(table.networks),
    }
    text = f"{len(table.times)} parts at {points} widths in {options.output}"
    _print(text, figures, options)


def _add_prune(commands: Any) -> None:
    description = """\
Makes a trained network smaller with data that have no labels. The dense network is the
only judge: filters go where that changes its outputs least; then the small network
learns to give what the dense one gives, and is held against it on samples that were
kept aside. The directory gets small.keras, the exported files of both networks and
report.html. A run that was interrupted goes on when the command is given again."""
    command = _add_command(
        commands, "prune", "make a network smaller, without labels", description
    )
    command.add_argument(
        "--budget",
        type=_budget,
        default={"macs": 0.5},
        metavar="macs=0.5",
        help="fractions to take away of macs, params and latency, with commas",
    )
    command.add_argument(
        "--latency_table",
        type=Path,
        metavar="FILE",
        help="what `measure` wrote, to predict the latency by",
    )
    _add_samples(command)
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIRECTORY", help="where to write"
    )
    command.add_argument(
        "--minutes",
        type=float,
        default=5.0,
        help="how long the small network may learn; 5 by default, 0 for not at all",
    )
    command.add_argument(
        "--formats",
        type=lambda text: text.split(","),
        default=["tflite"],
        help=f"of {', '.join(FORMATS)}, with commas; tflite by default",
    )
    _add_bounds(command)
    command.add_argument("--seed", type=int, default=0, help="of what is random")
    command.set_defaults(run=_prune)


def _add_samples(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images",
        dest="data",
        type=Path,
        metavar="FOLDER",
        help="images, read as keras.utils.image_dataset_from_directory does",
    )
    source.add_argument(
        "--data",
        dest="data",
        type=Path,
        metavar="FILE",
        help="samples as the network wants them: a .npy file, or a .npz file with one "
        "array, or with one by the name of each input; the first axis is the batch",
    )
    command.add_argument(
        "--range",
        choices=[*RANGES],
        help="of pixels that the network wants; found out by default",
    )
    command.add_argument(
        "--image_size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images, for a network that takes any",
    )


def _budget(text: str) -> dict[str, float]:
    """`macs=0.5,params=0.3` as a dictionary."""
    parts = (part.partition("=") for part in text.split(","))
    try:
        return {name: float(value) for name, _, value in parts}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be fractions by name, as in macs=0.5,params=0.3. Received: {text!r}"
        ) from error


def _prune(options: argparse.Namespace) -> None:
    unknown = set(options.budget) - set(RESOURCES)
    if unknown:
        raise ValueError(
            f"--budget must name some of {', '.join(RESOURCES)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    result = prune(
        _load(options),
        options.data,
        options.output,
        budget=Budget(**options.budget, latency_table=options.latency_table),
        formats=options.formats,
        quantize=options.quantize,
        tolerance=options.tolerance,
        min_agreement=options.min_agreement,
        minutes=options.minutes,
        input_range=options.range,
        image_size=options.image_size,
        seed=options.seed,
    )
    _print(result, result.to_dict(), options)


def _print(
    result: object, figures: dict[str, Any], options: argparse.Namespace
) -> None:
    if options.json:
        print(json.dumps(figures))
    else:
        _OUT.print(result)


def _profile_figures(cost: Profile) -> dict[str, Any]:
    return {
        "name": cost.name,
        "macs": cost.macs,
        "params": cost.params,
        "uncounted": list(cost.uncounted),
        "layers": [dataclasses.asdict(row) for row in cost.layers],
    }


def _load(options: argparse.Namespace) -> keras.Model:
    with _step(f"loading {options.model}"):
        for module in options.imports:
            importlib.import_module(module)
        return load_network(options.model, trusted=options.trust)


def _load_samples(path: Path) -> Any:
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = dict(loaded)
    return arrays.popitem()[1] if len(arrays) == 1 else arrays


@contextmanager
def _step(text: str, spin: bool = True) -> Iterator[None]:
    """Says what is being done: as a spinner on a terminal, else as a line."""
    if not _PROGRESS.is_terminal:
        print(text, file=sys.stderr, flush=True)
        yield
    elif spin:
        with _PROGRESS.status(text):
            yield
    else:
        yield


if __name__ == "__main__":
    sys.exit(main())
