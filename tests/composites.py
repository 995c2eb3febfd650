"""Layers made of layers, as people write them."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tests.graphs import randomize


@keras.saving.register_keras_serializable("tests")
class DropPath(layers.Layer):
    """Stochastic depth: the whole branch of a sample is dropped at random."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate, self.seeds = rate, keras.random.SeedGenerator(1)

    def call(self, x, training=None):
        if not training:
            return x
        keep = 1 - self.rate
        draws = keras.random.uniform((ops.shape(x)[0], 1, 1), seed=self.seeds)
        return x / keep * ops.floor(keep + draws)

    def get_config(self):
        return super().get_config() | {"rate": self.rate}


class Mlp(layers.Layer):
    def __init__(self, width, hidden, drop=0.0, **options):
        super().__init__(**options)
        self.expand = layers.Dense(hidden, activation="gelu", name="expand")
        self.drop = layers.Dropout(drop)
        self.project = layers.Dense(width, name="project")

    def build(self, shape):
        self.expand.build(shape)
        self.project.build((*shape[:-1], self.expand.units))

    def call(self, x, training=None):
        return self.project(self.drop(self.expand(x), training=training))


class Tokens(layers.Layer):
    """Patches of an image, behind a class token, with two tables of positions."""

    def __init__(self, width, count, **options):
        super().__init__(**options)
        self.width, self.count = width, count
        self.patches = layers.Conv2D(width, 4, 4, name="patches")
        self.places = layers.Embedding(count + 1, width, name="places")

    def build(self, shape):
        self.patches.build(shape)
        self.places.build(None)
        self.token = self.add_weight(shape=(1, 1, self.width), name="token")
        self.table = self.add_weight(shape=(self.count + 1, self.width), name="table")

    def call(self, x):
        batch = ops.shape(x)[0]
        x = ops.reshape(self.patches(x), (batch, -1, self.width))
        token = ops.broadcast_to(self.token, (batch, 1, self.width))
        x = ops.concatenate([token, x], axis=1) + self.table
        return x + self.places(ops.expand_dims(ops.arange(self.count + 1), 0))


class Block(layers.Layer):
    """An MLP with a scale for each channel, and stochastic depth."""

    def __init__(self, width, hidden, rate=0.2, **options):
        super().__init__(**options)
        self.width = width
        self.norm = layers.LayerNormalization(name="norm")
        self.mlp = Mlp(width, hidden, name="mlp")
        self.path_drop = DropPath(rate, name="drop_path") if rate else lambda x: x

    def build(self, shape):
        self.norm.build(shape)
        self.mlp.build(shape)
        self.scale = self.add_weight(shape=(self.width,), name="scale")

    def call(self, x):
        return x + self.path_drop(self.mlp(self.norm(x)) * self.scale)


class Linear(layers.Layer):
    """The layer of one's own that every introduction to Keras begins with."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), name="b")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w) + self.b)


class Mish(layers.Layer):
    def call(self, x):
        return x * ops.tanh(ops.softplus(x))


def transformer(blocks=2, rate=0.2, width=8):
    """Patches, blocks and a head, without attention."""
    x = keras.Input((8, 8, 3))
    y = Tokens(width, 4, name="tokens")(x)
    for number in range(blocks):
        y = Block(width, 12, rate, name=f"block_{number}")(y)
    y = layers.LayerNormalization(name="last")(y)
    model = keras.Model(x, layers.Dense(3, name="head")(y[:, 0]))
    randomize(model, 1)
    return model


def through(layer, width=8):
    """A model with the layer between two dense ones."""
    x = keras.Input((6, 3))
    y = layers.Dense(width, name="first")(x)
    model = keras.Model(x, layers.Dense(2, name="last")(layer(y)))
    randomize(model)
    return model


def images(count=3):
    return np.random.default_rng(0).normal(size=(count, 8, 8, 3)).astype("float32")
