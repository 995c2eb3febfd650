"""Profiles, compacts and exports a model file, without a script.

python -m pgmpf_tf profile MODEL.keras
    What the model costs: multiply-accumulates and parameters per layer.

python -m pgmpf_tf compact MODEL.keras SMALL.keras
    Writes the model without its dead channels, and what that saved.

python -m pgmpf_tf export MODEL.keras DIRECTORY [--formats=saved_model,tflite]
        [--quantize=float16|dynamic|int8] [--data=SAMPLES.npy] [--batch_size=N] ...
    Writes files to deploy, verified against the model, and how good they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags, logging
from rich.console import Console

from pgmpf_tf._files import staged
from pgmpf_tf.compaction import compact
from pgmpf_tf.exporting import VerificationError, export
from pgmpf_tf.exporting.request import LOADERS, PRECISIONS
from pgmpf_tf.profiling import profile
from pgmpf_tf.reporting import compare

_FORMATS = flags.DEFINE_list(
    "formats", ["saved_model", "tflite"], f"export: any of {', '.join(LOADERS)}."
)
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, PRECISIONS, "export: precision of the .tflite file, not float32."
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "export: samples to calibrate int8 with and to verify on: a .npy file, or a .npz "
    "file with one array, or with one by the name of each input. The first axis is the "
    "batch. Without it, verification is on random samples.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "export: fixes the batch size.", lower_bound=1
)
_INTEGER_IO = flags.DEFINE_bool(
    "integer_io", False, "export: int8 inputs and outputs, with --quantize=int8."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    None,
    "export: largest deviation from the model, relative to its largest output; by "
    "default 1e-4 for float32 and 1e-2 for float16.",
)
_MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement",
    None,
    "export: least fraction of samples with the same top-1 class; by default 0.9 for "
    "dynamic and int8 on --data.",
)

# Wide enough for the tables where there is no terminal to ask.
_OUT = Console(width=None if sys.stdout.isatty() else 120)
_PROGRESS = Console(stderr=True)


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit status."""
    commands: dict[str, tuple[Callable[..., None], int]] = {
        "profile": (_profile, 1),
        "compact": (_compact, 2),
        "export": (_export, 2),
    }
    name, arguments = (argv[1] if len(argv) > 1 else None), argv[2:]
    if name not in commands:
        raise app.UsageError(
            f"the command must be one of {', '.join(commands)}. Received: {name}"
        )
    command, count = commands[name]
    if len(arguments) != count:
        raise app.UsageError(
            f"{name} takes {count} path{'s'[: count - 1]}. Received: "
            f"{' '.join(arguments) or 'none'}"
        )
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        command(*map(Path, arguments))
    except (OSError, TypeError, ValueError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _profile(path: Path) -> None:
    model = _load(path)
    _OUT.print(profile(model))


def _compact(path: Path, target: Path) -> None:
    if target.suffix != ".keras":
        raise ValueError(
            f"the file to write must end in .keras. Received: {str(target)!r}"
        )
    model = _load(path)
    with _step("compacting"), staged(target.parent) as folder:
        small = compact(model)
        small.save(folder / target.name)
    _OUT.print(compare(model, small))


def _export(path: Path, directory: Path) -> None:
    data = _load_samples(Path(_DATA.value)) if _DATA.value else None
    model = _load(path)
    with _step("exporting", spin=False):
        report = export(
            model,
            directory,
            _FORMATS.value,
            quantize=_QUANTIZE.value,
            representative_data=data,
            batch_size=_BATCH_SIZE.value,
            integer_io=_INTEGER_IO.value,
            tolerance=_TOLERANCE.value,
            min_agreement=_MIN_AGREEMENT.value,
        )
    _OUT.print(report)


def _load(path: Path) -> keras.Model:
    with _step(f"loading {path}"):
        return keras.models.load_model(path)


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
    app.run(main)
