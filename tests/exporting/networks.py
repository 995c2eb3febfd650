"""Networks and data that the export tests share."""

import keras
import numpy as np
from keras import layers


def convnet(filters=8, classes=4):
    """A small image classifier with random weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(filters, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, name="scores")(x), name="convnet")


def images(count=16, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 3)).astype("float32")
