"""The command `prune`: makes a network smaller with data that have no labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pgmpf_tf._commands import add_bounds, add_command, load, print_figures
from pgmpf_tf.budgets.budget import RESOURCES, Budget
from pgmpf_tf.delivery.ranges import RANGES
from pgmpf_tf.delivery.run import prune
from pgmpf_tf.exporting.formats.registry import FORMATS


def add_prune(commands: Any) -> None:
    """Adds the command."""
    description = """\
Makes a trained network smaller with data that have no labels. The dense network is the
only judge: filters go where that changes its outputs least; then the small network
learns to give what the dense one gives, and is held against it on samples that were
kept aside. The directory gets small.keras, the exported files of both networks and
report.html. A run that was interrupted goes on when the command is given again."""
    command = add_command(
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
    command.add_argument(
        "--round_to",
        type=int,
        default=1,
        help="groups keep a multiple of so many filters: 4 for ONNX Runtime",
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
    add_bounds(command)
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
        load(options),
        options.data,
        options.output,
        budget=Budget(**options.budget, latency_table=options.latency_table),
        round_to=options.round_to,
        formats=options.formats,
        quantize=options.quantize,
        tolerance=options.tolerance,
        min_agreement=options.min_agreement,
        minutes=options.minutes,
        input_range=options.range,
        image_size=options.image_size,
        seed=options.seed,
    )
    print_figures(result, result.to_dict(), options)
