"""`.keras` files: to load in Python, and to train further."""

from __future__ import annotations

from pathlib import Path

import keras

from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Runner, Signature


class KerasFile(Format):
    """Keras' own file, with the model as it is."""

    name = "keras"
    file = "model.keras"
    deployed = False
    needs_tensorflow = False

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Saves the model."""
        signature.model.save(path)

    def load(self, path: Path) -> Runner:
        """Loads the model with Keras."""
        # This process has written the file a moment ago: its Lambdas are trusted.
        model = keras.models.load_model(path, compile=False, safe_mode=False)
        return Signature.of(model).run
