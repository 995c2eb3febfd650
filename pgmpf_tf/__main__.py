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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgmpf_tf._commands import add_bounds, add_command, load, print_figures, step
from pgmpf_tf._files import staged
from pgmpf_tf.delivery.command import add_prune
from pgmpf_tf.exporting import VerificationError, export, measure
from pgmpf_tf.exporting.formats.registry import FORMATS
from pgmpf_tf.exporting.measuring import RUNTIMES
from pgmpf_tf.exporting.options import precisions
from pgmpf_tf.profiling import Profile, profile
from pgmpf_tf.reporting import compare
from pgmpf_tf.training.shrinking import compact

_FAILED, _INTERRUPTED = 1, 130
"""Exit statuses; argparse itself exits with 2 where the command is misspelled."""


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
    for add in (_add_profile, _add_compact, _add_export, _add_measure, add_prune):
        add(commands)
    return parser


def _add_profile(commands: Any) -> None:
    description = """\
What a model costs: multiply-accumulates and parameters, layer by layer and in all."""
    command = add_command(
        commands, "profile", "count multiply-accumulates and parameters", description
    )
    command.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> None:
    cost = profile(load(options))
    print_figures(cost, _profile_figures(cost), options)


def _add_compact(commands: Any) -> None:
    description = """\
Writes the model without the channels that are zero for all inputs or that nothing
reads, and says what that saved. What the model computes stays the same."""
    command = add_command(
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
    model = load(options)
    with step("compacting"), staged(target.parent) as folder:
        small = compact(model)
        small.save(folder / target.name)
    comparison = compare(model, small)
    figures = {
        "dense": _profile_figures(comparison.dense),
        "small": _profile_figures(comparison.small),
    }
    print_figures(comparison, figures, options)


def _add_export(commands: Any) -> None:
    description = f"""\
Writes files to deploy. Each is loaded again by the software that will run it, and held
against the model, before any of them gets its name in the directory; a table says how
far they are from the model, how large and how fast.

formats:    {", ".join(FORMATS)}
precisions: {", ".join(precisions())}"""
    command = add_command(commands, "export", "write files to deploy", description)
    command.add_argument("directory", type=Path, help="where to write")
    command.add_argument(
        "--formats",
        type=lambda text: text.split(","),
        default=["saved_model", "tflite"],
        help="one or several, with commas; saved_model,tflite by default",
    )
    add_bounds(command)
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


def _export(options: argparse.Namespace) -> None:
    data = None if options.data is None else _load_samples(options.data)
    model = load(options)
    with step("exporting", spin=False):
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
    print_figures(exports, exports.to_dict(), options)


def _add_measure(commands: Any) -> None:
    description = """\
Measures on this machine what the parts of a network take at many widths, and writes a
table by which a budget of latency is met here or anywhere: --latency_table of `prune`,
`Budget(latency=0.5, latency_table="TABLE.json")` in Python. A run that was interrupted
goes on when the command is given again; a table may hold several networks."""
    command = add_command(
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
    model = load(options)
    with step("measuring", spin=False):
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
    print_figures(text, figures, options)


def _profile_figures(cost: Profile) -> dict[str, Any]:
    return {
        "name": cost.name,
        "macs": cost.macs,
        "params": cost.params,
        "uncounted": list(cost.uncounted),
        "layers": [dataclasses.asdict(row) for row in cost.layers],
    }


def _load_samples(path: Path) -> Any:
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = dict(loaded)
    return arrays.popitem()[1] if len(arrays) == 1 else arrays


if __name__ == "__main__":
    sys.exit(main())
