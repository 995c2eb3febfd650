"""What the commands of the command line share."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from pgmpf_tf.exporting.loading import load_network

# Wide enough for the tables where there is no terminal to ask.
_OUT = Console(width=None if sys.stdout.isatty() else 120)
_PROGRESS = Console(stderr=True)


def add_command(
    commands: Any, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """Adds a command on a model file, with the options that all of them have.

    Args:
        commands: what `add_subparsers` has given.
        name: of the command.
        summary: a line for the list of commands.
        description: its `--help`.

    Returns:
        Its parser, for options of its own.
    """
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


def add_bounds(command: argparse.ArgumentParser) -> None:
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


def print_figures(
    result: object, figures: dict[str, Any], options: argparse.Namespace
) -> None:
    """Prints what a command has found: for people, or with `--json` for machines."""
    if options.json:
        print(json.dumps(figures))
    else:
        _OUT.print(result)


def load(options: argparse.Namespace) -> keras.Model:
    """The model of the file that is named."""
    with step(f"loading {options.model}"):
        for module in options.imports:
            importlib.import_module(module)
        return load_network(options.model, trusted=options.trust)


@contextmanager
def step(text: str, spin: bool = True) -> Iterator[None]:
    """Says what is being done: as a spinner on a terminal, else as a line."""
    if not _PROGRESS.is_terminal:
        print(text, file=sys.stderr, flush=True)
        yield
    elif spin:
        with _PROGRESS.status(text):
            yield
    else:
        yield
