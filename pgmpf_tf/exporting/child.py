"""The process on TensorFlow that writes what other backends cannot; see `writing`.

Usage: KERAS_BACKEND=tensorflow python -m pgmpf_tf.exporting.child FOLDER
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np

from pgmpf_tf.exporting import writing
from pgmpf_tf.exporting.formats.base import Precision
from pgmpf_tf.exporting.formats.registry import FORMATS
from pgmpf_tf.exporting.signature import Signature


def main(folder: Path) -> None:
    """Writes what the folder asks for, or into the folder why that cannot be."""
    try:
        _answer(folder)
    except ValueError as error:
        (folder / writing.REFUSAL).write_text(str(error), "utf-8")


def _answer(folder: Path) -> None:
    request = json.loads((folder / writing.REQUEST).read_text("utf-8"))
    calibration = None
    if (folder / writing.CALIBRATION).is_file():
        with np.load(folder / writing.CALIBRATION) as arrays:
            calibration = dict(arrays)
    precision = Precision(request["precision"], calibration, request["integer_io"])
    for module in request["modules"]:
        # Keras will say what is missing, if the model needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    signature = Signature.of(_model(folder), request["batch_size"])
    FORMATS[request["format"]].write(signature, Path(request["path"]), precision)


def _model(folder: Path) -> keras.Model:
    try:
        # The other process has written the file a moment ago: it is trusted.
        return keras.saving.load_model(
            folder / writing.MODEL, compile=False, safe_mode=False
        )
    except Exception as error:  # whatever the layers in it raise
        raise ValueError(
            "`model` must be one that a process on TensorFlow can load: that is what "
            "writes this format. Layers of your own must be written in keras.ops, and "
            f"stand in a module that can be imported. Keras says: {error}"
        ) from error


if __name__ == "__main__":
    main(Path(sys.argv[1]))
