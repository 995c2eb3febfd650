"""Networks as people write them with Keras, at toy size: for images.

Each is made of layers and functions of its own, as in tutorials: patches, windows,
blocks with `add_weight` and `keras.ops`. Those for sequences and graphs are in
`written_sequences`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

CLASSES = 5
SIDE = 16


@keras.saving.register_keras_serializable("written")
class PatchEncoder(layers.Layer):
    """Patches of an image, projected, with a class token and positions."""

    def __init__(self, patch: int, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.patch, self.width = patch, width
        self.projection = layers.Dense(width, name="projection")

    def build(self, shape: tuple[int, ...]) -> None:
        count = (shape[1] // self.patch) * (shape[2] // self.patch)
        self.projection.build((None, count, self.patch**2 * shape[3]))
        self.token = self.add_weight(shape=(1, 1, self.width), name="token")
        self.table = layers.Embedding(count + 1, self.width, name="table")
        self.table.build((None, count + 1))
        self.count = count

    def call(self, images: Any) -> Any:
        patches = ops.image.extract_patches(images, (self.patch, self.patch))
        x = self.projection(ops.reshape(patches, (-1, self.count, patches.shape[-1])))
        token = ops.repeat(self.token, ops.shape(x)[0], axis=0)
        x = ops.concatenate([token, x], axis=1)
        return x + self.table(ops.arange(self.count + 1))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"patch": self.patch, "width": self.width}


def _mlp(x: Any, widths: list[int], dropout: float) -> Any:
    for width in widths:
        x = layers.Dropout(dropout)(layers.Dense(width, activation="gelu")(x))
    return x


def vit() -> keras.Model:
    """A vision transformer of functions around `MultiHeadAttention`."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = PatchEncoder(4, 32)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(4, 8, dropout=0.1)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, _mlp(y, [64, 32], 0.1)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = _mlp(layers.Flatten()(x), [32], 0.5)
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="vit")


def _windows(x: Any, size: int) -> Any:
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size**2, channels))


def _image(x: Any, size: int, height: int, width: int) -> Any:
    channels = x.shape[-1]
    x = ops.reshape(x, (-1, height // size, width // size, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


@keras.saving.register_keras_serializable("written")
class WindowAttention(layers.Layer):
    """Attention within windows, with a table of relative positions."""

    def __init__(self, size: int, width: int, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.width, self.heads = size, width, heads
        self.qkv = layers.Dense(3 * width)
        self.projection = layers.Dense(width)
        at = np.stack(np.meshgrid(*[np.arange(size)] * 2, indexing="ij"), -1)
        at = at.reshape(-1, 2)
        apart = at[:, None] - at[None] + size - 1
        self.index = (apart[..., 0] * (2 * size - 1) + apart[..., 1]).ravel()

    def build(self, shape: tuple[int, ...]) -> None:
        self.qkv.build(shape)
        self.projection.build(shape)
        rows = (2 * self.size - 1) ** 2
        self.table = self.add_weight(shape=(rows, self.heads), name="table")

    def call(self, x: Any, apart: Any = None) -> Any:
        _, count, width = x.shape
        depth = width // self.heads
        qkv = ops.reshape(self.qkv(x), (-1, count, 3, self.heads, depth))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        scores = ops.matmul(q * depth**-0.5, ops.transpose(k, (0, 1, 3, 2)))
        bias = ops.take(self.table, self.index, axis=0)
        bias = ops.transpose(ops.reshape(bias, (count, count, -1)), (2, 0, 1))
        scores = scores + ops.expand_dims(bias, 0)
        if apart is not None:
            windows = apart.shape[0]
            scores = ops.reshape(scores, (-1, windows, self.heads, count, count))
            scores = scores + apart[None, :, None]
            scores = ops.reshape(scores, (-1, self.heads, count, count))
        y = ops.matmul(ops.softmax(scores, axis=-1), v)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, count, width))
        return self.projection(y)

    def get_config(self) -> dict[str, Any]:
        config = {"size": self.size, "width": self.width, "heads": self.heads}
        return super().get_config() | config


@keras.saving.register_keras_serializable("written")
class SwinBlock(layers.Layer):
    """Shifted windows, then a perceptron, each with a shortcut."""

    def __init__(
        self, width: int, heads: int, window: int, shift: int, **options: Any
    ) -> None:
        super().__init__(**options)
        self.width, self.heads, self.window, self.shift = width, heads, window, shift
        self.first = layers.LayerNormalization(epsilon=1e-5)
        self.attention = WindowAttention(window, width, heads)
        self.second = layers.LayerNormalization(epsilon=1e-5)
        self.grow = layers.Dense(2 * width, activation="gelu")
        self.shrink = layers.Dense(width)

    def build(self, shape: tuple[int, ...]) -> None:
        self.first.build(shape)
        self.second.build(shape)
        self.attention.build((1, self.window**2, self.width))
        self.grow.build(shape)
        self.shrink.build((*shape[:-1], 2 * self.width))
        self.apart = None
        if self.shift:
            side = shape[1]
            regions = np.zeros((1, side, side, 1))
            edges = (0, side - self.window, side - self.shift, side)
            for row in range(3):
                for column in range(3):
                    rows = slice(edges[row], edges[row + 1])
                    columns = slice(edges[column], edges[column + 1])
                    regions[:, rows, columns] = 3 * row + column
            numbers = np.asarray(_windows(regions, self.window))[..., 0]
            differs = numbers[:, None] != numbers[:, :, None]
            self.apart = np.where(differs, -100.0, 0.0).astype("float32")

    def call(self, x: Any) -> Any:
        _, height, width, _ = x.shape
        y = self.first(x)
        if self.shift:
            y = ops.roll(y, (-self.shift, -self.shift), axis=(1, 2))
        y = self.attention(_windows(y, self.window), self.apart)
        y = _image(y, self.window, height, width)
        if self.shift:
            y = ops.roll(y, (self.shift, self.shift), axis=(1, 2))
        x = x + y
        return x + self.shrink(self.grow(self.second(x)))

    def get_config(self) -> dict[str, Any]:
        names = ("width", "heads", "window", "shift")
        return super().get_config() | {name: getattr(self, name) for name in names}


def swin() -> keras.Model:
    """Two stages of shifted windows, with merged patches between them."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 2, strides=2)(inputs)
    for shift in (0, 2):
        x = SwinBlock(8, 2, 4, shift)(x)
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = layers.LayerNormalization()(layers.Concatenate()(corners))
    x = layers.Dense(16, use_bias=False)(x)
    x = SwinBlock(16, 4, 2, 1)(x)
    x = layers.GlobalAveragePooling2D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="swin")


@keras.saving.register_keras_serializable("written")
class MixerBlock(layers.Layer):
    """A perceptron over tokens, then one over channels."""

    def __init__(self, tokens: int, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.tokens, self.width = tokens, width
        self.first = keras.Sequential(
            [layers.Dense(tokens, activation="gelu"), layers.Dense(tokens)]
        )
        self.second = keras.Sequential(
            [layers.Dense(2 * width, activation="gelu"), layers.Dense(width)]
        )
        self.before = layers.LayerNormalization(epsilon=1e-6)
        self.between = layers.LayerNormalization(epsilon=1e-6)

    def build(self, shape: tuple[int, ...]) -> None:
        self.before.build(shape)
        self.between.build(shape)
        self.first.build((None, shape[2], shape[1]))
        self.second.build(shape)

    def call(self, x: Any) -> Any:
        y = ops.transpose(self.before(x), (0, 2, 1))
        x = x + ops.transpose(self.first(y), (0, 2, 1))
        return x + self.second(self.between(x))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"tokens": self.tokens, "width": self.width}


def mlp_mixer() -> keras.Model:
    """Perceptrons over tokens and over channels, in turn."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Reshape((16, 16))(layers.Conv2D(16, 4, strides=4)(inputs))
    for _ in range(2):
        x = MixerBlock(16, 16)(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="mlp_mixer")


def conv_mixer() -> keras.Model:
    """Depthwise convolutions with shortcuts between pointwise ones."""
    inputs = keras.Input((SIDE, SIDE, 3))

    def activated(x: Any) -> Any:
        return layers.BatchNormalization()(layers.Activation("gelu")(x))

    x = layers.Rescaling(1 / 255)(inputs)
    x = activated(layers.Conv2D(16, 2, strides=2)(x))
    for _ in range(2):
        y = activated(layers.DepthwiseConv2D(5, padding="same")(x))
        x = activated(layers.Conv2D(16, 1)(layers.Add()([y, x])))
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(CLASSES, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="conv_mixer")


@keras.saving.register_keras_serializable("written")
class TimeEmbedding(layers.Layer):
    """Sines and cosines of a time."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        steps = np.arange(width // 2) / (width // 2 - 1)
        self.rates = np.exp(-np.log(1e4) * steps).astype("float32")

    def call(self, times: Any) -> Any:
        angles = ops.cast(times, "float32")[:, None] * self.rates[None]
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}


@keras.saving.register_keras_serializable("written")
class PixelAttention(layers.Layer):
    """Attention between all pixels, by two `einsum`s."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        self.norm = layers.GroupNormalization(4)
        self.query, self.key, self.value, self.out = (
            layers.Dense(width) for _ in range(4)
        )

    def build(self, shape: tuple[int, ...]) -> None:
        for layer in (self.norm, self.query, self.key, self.value, self.out):
            layer.build(shape)

    def call(self, x: Any) -> Any:
        _, height, width, _ = x.shape
        y = self.norm(x)
        scores = ops.einsum("bhwc,bHWc->bhwHW", self.query(y), self.key(y))
        scores = scores * self.width**-0.5
        scores = ops.reshape(scores, (-1, height, width, height * width))
        scores = ops.softmax(scores, -1)
        scores = ops.reshape(scores, (-1, height, width, height, width))
        y = ops.einsum("bhwHW,bHWc->bhwc", scores, self.value(y))
        return x + self.out(y)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}


def _residual(x: Any, time: Any, width: int) -> Any:
    shortcut = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
    y = keras.activations.swish(layers.GroupNormalization(4)(x))
    y = layers.Conv2D(width, 3, padding="same")(y)
    shift = layers.Dense(width)(keras.activations.swish(time))[:, None, None, :]
    y = keras.activations.swish(layers.GroupNormalization(4)(layers.Add()([y, shift])))
    y = layers.Conv2D(width, 3, padding="same")(y)
    return layers.Add()([y, shortcut])


def ddpm_unet() -> keras.Model:
    """The noise predictor of a diffusion model."""
    images = keras.Input((8, 8, 3), name="images")
    times = keras.Input((), dtype="int32", name="times")
    x = layers.Conv2D(8, 3, padding="same")(images)
    time = layers.Dense(16, activation="swish")(TimeEmbedding(8)(times))
    time = layers.Dense(16)(time)
    skips = [x]
    x = _residual(x, time, 8)
    skips.append(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = PixelAttention(16)(_residual(x, time, 16))
    x = layers.UpSampling2D(interpolation="nearest")(x)
    x = layers.Conv2D(8, 3, padding="same")(x)
    for skip in reversed(skips):
        x = _residual(layers.Concatenate()([x, skip]), time, 8)
    x = keras.activations.swish(layers.GroupNormalization(4)(x))
    outputs = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model([images, times], outputs, name="ddpm_unet")


def keypoint() -> keras.Model:
    """Coordinates of keypoints, by separable convolutions down to one pixel."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = inputs
    for width, stride in ((8, 2), (16, 2)):
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Dropout(0.3)(x)
    x = layers.SeparableConv2D(24, 3, strides=1, activation="relu")(x)
    x = layers.SeparableConv2D(8, 2, strides=1, activation="sigmoid")(x)
    return keras.Model(inputs, x, name="keypoint")
