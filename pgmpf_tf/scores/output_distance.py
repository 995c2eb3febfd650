"""How far a model's outputs have moved: what pruning does where there are no labels."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf.backends.data import batches

NAME = "output_distance"
"""What it is called among metrics."""


class OutputDistance:
    """The distance of a model's outputs to what they were when this was made.

    It is the root mean square of the differences over the standard deviation of the
    output; of several outputs, the mean.

    Args:
        model: the model.
        data: what `fit` takes, of which the inputs count. They are held in memory, so
            that shuffled batches come in one order.
    """

    def __init__(self, model: keras.Model, data: Any) -> None:
        self._model = model
        self._inputs = [x for x, _, _ in batches("data", data)]
        self._reference = self._outputs()
        tiny = float(np.finfo("float32").tiny)
        self._spreads = [max(float(np.std(y)), tiny) for y in self._reference]

    def _outputs(self) -> list[np.ndarray]:
        """Each output on all data."""
        found = [
            tree.flatten(self._model.predict_on_batch(inputs))
            for inputs in self._inputs
        ]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def measure(self) -> dict[str, float]:
        """The distance of the outputs as they are now, by its name."""
        distances = []
        pairs = zip(self._outputs(), self._reference, self._spreads, strict=True)
        for now, then, spread in pairs:
            squares = np.square(now - then, dtype="float64")
            distances.append(float(np.sqrt(np.mean(squares))) / spread)
        return {NAME: float(np.mean(distances))}

    @property
    def fingerprint(self) -> str:
        """A hash of what the distance is held against."""
        digest = hashlib.sha256()
        for output in self._reference:
            digest.update(np.ascontiguousarray(output.round(4)).tobytes())
        return digest.hexdigest()[:16]
