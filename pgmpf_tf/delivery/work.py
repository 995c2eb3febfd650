"""The folder in which a run keeps what it has done, so that it can go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf._files import locked, remove_leftovers, write_text
from pgmpf_tf.exporting.signature import Arrays

NAME = "unfinished"


@contextlib.contextmanager
def opened(directory: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of unfinished work, new or of an earlier run with these settings.

    No other run gets into the directory meanwhile. The folder is removed if the block
    succeeds, and stays if it raises.

    Raises:
        ValueError: the directory holds the work of another run, or cannot be written.
        FolderInUse: another process is at work in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            "`directory` must be a directory that can be made and written. "
            f"{received('directory', str(directory))} ({error.strerror})"
        ) from error
    with locked(directory):
        folder = directory / NAME
        folder.mkdir(exist_ok=True)
        path = folder / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True)
        if path.exists() and path.read_text("utf-8") != text:
            raise ValueError(
                "`directory` holds the unfinished work of a run with another model, "
                "other data or other settings. Name another directory, or delete "
                f"{str(folder)!r}. {received('directory', str(directory))}"
            )
        remove_leftovers(directory)
        write_text(path, text)
        yield folder
        shutil.rmtree(folder)


def fingerprint_of_model(model: keras.Model) -> str:
    """What tells a network from others."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data)
    return digest.hexdigest()


def fingerprint_of_data(arrays: Arrays) -> str:
    """What tells samples from others."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
