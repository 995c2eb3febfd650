"""Loads a network from what somebody else has saved."""

from __future__ import annotations

from pathlib import Path

import keras

from pgmpf_tf._checks import received


def load_network(path: Path, *, trusted: bool = False) -> keras.Model:
    """A model without what it was compiled with, which other versions may not know.

    Args:
        path: a `.keras`, `.h5` or `.hdf5` file, or the folder of a KerasHub preset.
        trusted: whether Python code in the file (of Lambda layers) may run.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is something else, or Keras cannot load it; the message says
            what to do.
        ImportError: it is a KerasHub preset, and KerasHub is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}")
    if path.is_dir():
        return _load_folder(path)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(
            "`model` must be a .keras or .h5 file, or the folder of a KerasHub preset. "
            f"{received('model', str(path))}"
        )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # whatever the layers in it raise
        raise ValueError(
            f"Keras cannot load {str(path)!r}: {_first_line(error)}{_hint(path, error)}"
        ) from error


def _load_folder(path: Path) -> keras.Model:
    if (path / "saved_model.pb").exists():
        raise ValueError(
            "`model` must be a .keras or .h5 file: a SavedModel holds operations, not "
            "the layers that could be pruned. Save it from the program that made it "
            "with model.save('model.keras'), or, if Keras 2 wrote the folder, with "
            "tf_keras.models.load_model(folder).save('model.h5'). "
            f"{received('model', str(path))}"
        )
    if not (path / "config.json").exists():
        raise ValueError(
            "`model` must be a file, or a folder with the config.json of a KerasHub "
            f"preset. {received('model', str(path))}"
        )
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} seems to be a KerasHub preset. Install KerasHub to load "
            "it: pip install keras-hub"
        ) from error
    kind = keras_hub.models
    loader = kind.Task if (path / "task.json").exists() else kind.Backbone
    return loader.from_preset(str(path))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)


def _hint(path: Path, error: Exception) -> str:
    """What to do about some of the things that go wrong."""
    text = str(error)
    if "Lambda" in text and "safe_mode" in text:
        return " The file holds Python code; to run it, pass --trust."
    if "Could not locate" in text or "Unknown layer" in text:
        return (
            " Layers of your own must be known: import the module that registers them "
            "(keras.saving.register_keras_serializable) with --import=MODULE."
        )
    if path.suffix != ".keras" and "config" in text.lower():
        return " A file of weights alone holds no model."
    return ""
