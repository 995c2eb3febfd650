"""A small trained network, and images without labels, that the tests share."""

import functools

import keras
import numpy as np
from keras import layers


def images(count=160, seed=0):
    """Bright and dark squares on noise, 0..255: `(count, 12, 12, 3)`."""
    generator = np.random.default_rng(seed)
    pixels = generator.uniform(60, 180, (count, 12, 12, 3))
    for index in range(count):
        row, column = 6 * (index % 2), 6 * (index // 2 % 2)
        pixels[index, row : row + 6, column : column + 6] = 250
    return pixels.round().astype("float32")


def classifier(rescale=1 / 255, norm=True, classes=4):
    """Has learned where the square is; wants its pixels times `rescale`."""
    model = _untrained(norm, classes)
    model.set_weights(_learned(rescale, norm, classes))
    return model


def _untrained(norm, classes):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(16, 3, padding="same", name="first"),
            *([layers.BatchNormalization(momentum=0.7)] if norm else []),
            layers.ReLU(),
            layers.MaxPooling2D(3),
            layers.Conv2D(16, 3, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax", name="scores"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


@functools.cache
def _learned(rescale, norm, classes):
    model = _untrained(norm, classes)
    x = images() * rescale
    model.fit(x, np.arange(len(x)) % classes, epochs=6, verbose=0)
    return model.get_weights()


def write_images(folder):
    """The images as PNG files, in two folders."""
    for index, pixels in enumerate(images()):
        place = folder / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(place / f"{index}.png", pixels, scale=False)
