"""Writes an artifact where that can be done: here, or in a process on TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Signature

MODEL, CALIBRATION = "model.keras", "calibration.npz"
REQUEST, REFUSAL = "request.json", "refusal.txt"
"""The files by which the two processes speak."""


def write(
    format: Format, signature: Signature, path: Path, precision: Precision
) -> None:
    """Writes an artifact, whatever backend Keras runs on in this process.

    Args:
        format: the format.
        signature: the model, and the names and shapes it is called with.
        path: the file or folder, which is not there yet.
        precision: one that the format has.

    Raises:
        ValueError: the format cannot hold the model, or another process cannot load it.
        RuntimeError: the other process has died.
    """
    if format.needs_tensorflow and keras.backend.backend() != "tensorflow":
        write_elsewhere(format, signature, path, precision)
    else:
        format.write(signature, path, precision)


def write_elsewhere(
    format: Format, signature: Signature, path: Path, precision: Precision
) -> None:
    """Lets a child process on TensorFlow write an artifact; see `write`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signature.model.save(folder / MODEL)
        if precision.calibration is not None:
            arrays: dict[str, Any] = dict(precision.calibration)
            np.savez(folder / CALIBRATION, **arrays)
        request = {
            "format": format.name,
            "precision": precision.name,
            "integer_io": precision.integer_io,
            "batch_size": signature.batch_size,
            "path": str(path.absolute()),
            "modules": _modules(),
        }
        (folder / REQUEST).write_text(json.dumps(request), "utf-8")
        run_elsewhere("pgmpf_tf.exporting.child", folder, f"write {path.name}")


def run_elsewhere(module: str, folder: Path, task: str) -> None:
    """Runs a module in a process on TensorFlow and the processor.

    Args:
        module: its only argument is the folder.
        folder: by whose files the two processes speak.
        task: what it is to do, for messages.

    Raises:
        ValueError: it has written the reason to `REFUSAL`.
        RuntimeError: it has failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder)],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    refusal = folder / REFUSAL
    if refusal.is_file():
        raise ValueError(refusal.read_text("utf-8"))
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(
            f"The process on TensorFlow that was to {task} has ended with status "
            f"{done.returncode}: {last[0]}"
        )


def _modules() -> list[str]:
    """Where the layers and functions come from that are registered with Keras."""
    registered = keras.saving.get_custom_objects().values()
    found = {getattr(entry, "__module__", None) or "__main__" for entry in registered}
    return sorted(found - {"__main__"})


def _environment() -> dict[str, str]:
    """A process that imports what this one imports, on TensorFlow and the processor."""
    places = (os.path.abspath(place) for place in sys.path)
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(places),
        # The memory of an accelerator may be taken by this process.
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
