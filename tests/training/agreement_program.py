"""The same training run on whatever backend is in use, for a comparison.

Usage: KERAS_BACKEND=... python -m tests.training.agreement_program OUTPUT
Writes the masks after every update and the final weights of all cases to OUTPUT (.npz).
"""

import sys

import keras
import numpy as np

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import cross_entropy, images_and_labels

EPOCHS = 5
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.003),
}


def network(batchnorm):
    """Smooth, so that rounding grows slowly; the weights are NumPy's draws."""
    layers = keras.layers
    x = inputs = keras.Input((6, 6, 2))
    for name, filters in (("first", 8), ("second", 6)):
        x = layers.Conv2D(filters, 3, use_bias=not batchnorm, name=name)(x)
        if batchnorm:
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.Activation("tanh")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, name="scores")(x))
    rng = np.random.default_rng(8)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            shape = layer.kernel.shape
            layer.kernel.assign(rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape))
    return model


class Masks(keras.callbacks.Callback):
    """Notes the masks before each step and at the end."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def note(self, *_, **__):
        masks = self.model.masks()
        self.seen.append(np.concatenate([masks[name] for name in sorted(masks)]))

    on_train_batch_begin = on_train_end = note


def run(optimizer, batchnorm):
    """Masks `(steps + 1, units)`, then the weights."""
    # The published method: its masks move, and its draws act, up to the last epoch.
    model = wrap(network(batchnorm), 0.5, method="pgmpf_published", seed=5)
    model.compile(OPTIMIZERS[optimizer](), cross_entropy())
    masks = Masks()
    x, y = images_and_labels(40)
    model.fit(x, y, 8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[masks])
    return np.array(masks.seen), model.get_weights()


def main(output):
    results = {}
    for optimizer in OPTIMIZERS:
        for norm in (False, True):
            case = f"{optimizer} {'with' if norm else 'without'} BatchNorm"
            masks, weights = run(optimizer, norm)
            results[f"{case}: masks"] = masks
            for index, value in enumerate(weights):
                results[f"{case}: weight {index}"] = value
    np.savez(output, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
