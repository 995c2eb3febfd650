"""SavedModels: for TensorFlow Serving, and the way to TFLite."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature

ENDPOINT = "serving_default"
"""The signature of SavedModels and `.tflite` files."""


class SavedModel(Format):
    """A folder for TensorFlow, with one signature that has the model's names."""

    name = "saved_model"
    file = "saved_model"
    packages = ("tensorflow",)
    legacy = True

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Writes the folder."""
        write_saved_model(signature, path)

    def load(self, path: Path) -> Runner:
        """Loads the folder with TensorFlow."""
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            # Not the signature alone: `loaded` owns the variables.
            endpoint = loaded.signatures[ENDPOINT]
            outputs = endpoint(**{k: tf.constant(v) for k, v in arrays.items()})
            return {name: output.numpy() for name, output in outputs.items()}

        return run


def write_saved_model(signature: Signature, path: Path) -> None:
    """Writes a SavedModel."""
    import tensorflow as tf

    specs = [
        tf.TensorSpec(port.shape, port.dtype, name=port.name)
        for port in signature.inputs
    ]
    archive = keras.export.ExportArchive()
    archive.add_endpoint(ENDPOINT, lambda *x: signature.call(x), input_signature=specs)
    archive.write_out(path, verbose=False)
