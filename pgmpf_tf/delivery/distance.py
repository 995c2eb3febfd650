"""How far outputs are from the dense network's: what is measured and minimized."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf.exporting.signature import Arrays, Signature


@keras.saving.register_keras_serializable("pgmpf_tf")
class RelativeError(keras.losses.Loss):
    """The squared error as a part of the targets' variance.

    Args:
        variance: of the targets.
        name: of the loss.
    """

    def __init__(self, variance: float, name: str = "relative_error") -> None:
        super().__init__(name=name)
        self.variance = variance

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Per sample and position, the mean over the last axis."""
        error = keras.ops.mean(keras.ops.square(y_pred - y_true), axis=-1)
        return error / self.variance

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"variance": self.variance, "name": self.name}


def losses(model: keras.Model, outputs: Any) -> Any:
    """A loss per output of a model, in the structure of its outputs.

    Probabilities of classes (not negative, with the sum 1) get the Kullback-Leibler
    divergence, all others the relative squared error.

    Args:
        model: the network.
        outputs: what the dense one gives, arrays in the same structure.
    """
    found = [_loss(np.asarray(array)) for array in tree.flatten(outputs)]
    return tree.pack_sequence_as(model.output, found)


def _loss(array: np.ndarray) -> keras.losses.Loss:
    if array.shape[-1] > 1 and array.min() >= 0:
        sums = array.sum(axis=-1)
        if np.allclose(sums, 1.0, atol=1e-3):
            return keras.losses.KLDivergence()
    return RelativeError(max(float(np.var(array)), 1e-12))


def per_sample(loss: Any, outputs: Any, targets: Any) -> np.ndarray:
    """The loss of each sample, its mean over positions; a sum over outputs.

    Args:
        loss: see `losses`.
        outputs: of a network, arrays in its structure.
        targets: what the dense one gives, in the same structure.
    """
    total = np.float64(0.0)
    for each, found, expected in zip(
        *map(tree.flatten, (loss, outputs, targets)), strict=True
    ):
        # As Keras does for losses: half precision would overflow.
        pair = (np.asarray(array, "float32") for array in (expected, found))
        values = keras.ops.convert_to_numpy(each.call(*pair))
        total = total + values.reshape(len(values), -1).mean(axis=1, dtype="float64")
    return np.asarray(total)


def packed(signature: Signature, arrays: Arrays) -> Any:
    """Samples in the structure of a network's inputs."""
    flat = [arrays[port.name] for port in signature.inputs]
    return tree.pack_sequence_as(signature.model.input, flat)
