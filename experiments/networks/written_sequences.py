"""Networks as people write them with Keras, at toy size: sequences, pairs, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from experiments.networks import written

TOKENS = 50
STEPS = 8


def _feed_forward(x: Any, width: int) -> Any:
    y = layers.LayerNormalization()(x)
    y = layers.Dropout(0.1)(layers.Dense(2 * width, activation="swish")(y))
    return layers.Add()([x, layers.Dense(width)(y) * 0.5])


def conformer() -> keras.Model:
    """Attention and gated convolutions over frames of sound."""
    inputs = keras.Input((16, 12))
    x = layers.Conv1D(32, 3, strides=2, padding="same", activation="relu")(inputs)
    for _ in range(2):
        x = _feed_forward(x, 32)
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(y, y)])
        y = layers.Conv1D(64, 1)(layers.LayerNormalization()(x))
        values, gates = ops.split(y, 2, axis=-1)
        y = values * ops.sigmoid(gates)
        y = layers.DepthwiseConv1D(5, padding="same")(y)
        y = layers.Activation("swish")(layers.BatchNormalization()(y))
        x = layers.Add()([x, layers.Conv1D(32, 1)(y)])
        x = layers.LayerNormalization()(_feed_forward(x, 32))
    outputs = layers.Dense(written.CLASSES)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs, name="conformer")


@keras.saving.register_keras_serializable("written")
class TokensAndPositions(layers.Layer):
    """Embeddings of tokens and of their places; token 0 is padding."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        self.tokens = layers.Embedding(TOKENS, width, mask_zero=True)
        self.places = layers.Embedding(STEPS, width)

    def build(self, shape: tuple[int, ...]) -> None:
        self.tokens.build(shape)
        self.places.build(shape)

    def call(self, x: Any) -> Any:
        return self.tokens(x) + self.places(ops.arange(x.shape[-1]))

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        return self.tokens.compute_mask(x)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}


@keras.saving.register_keras_serializable("written")
class TransformerBlock(layers.Layer):
    """Attention and a perceptron, each normalized after its shortcut."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.heads = width, heads
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.feed_forward = keras.Sequential(
            [layers.Dense(2 * width, activation="relu"), layers.Dense(width)]
        )
        self.first = layers.LayerNormalization(epsilon=1e-6)
        self.second = layers.LayerNormalization(epsilon=1e-6)
        self.dropout = layers.Dropout(0.1)

    def build(self, shape: tuple[int, ...]) -> None:
        self.attention.build(shape, shape)
        self.feed_forward.build(shape)
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x: Any, training: bool | None = None) -> Any:
        y = self.dropout(self.attention(x, x), training=training)
        x = self.first(x + y)
        y = self.dropout(self.feed_forward(x), training=training)
        return self.second(x + y)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width, "heads": self.heads}


def text_transformer() -> keras.Model:
    """A classifier of padded texts."""
    inputs = keras.Input((STEPS,), dtype="int32", name="tokens")
    x = TokensAndPositions(16)(inputs)
    for _ in range(2):
        x = TransformerBlock(16, 4)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(written.CLASSES)(x), name="text")


@keras.saving.register_keras_serializable("written")
class Distances(layers.Layer):
    """Squared distances from an anchor to two others."""

    def call(self, anchor: Any, positive: Any, negative: Any) -> Any:
        near = ops.sum(ops.square(anchor - positive), -1)
        return near, ops.sum(ops.square(anchor - negative), -1)


def siamese() -> keras.Model:
    """One tower for three images, and their distances."""
    shape = (12, 12, 3)
    image = keras.Input(shape)
    x = image
    for width in (8, 16):
        x = layers.Conv2D(width, 3, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dense(24, activation="relu")(layers.Flatten()(x))
    x = layers.Dense(12)(layers.BatchNormalization()(x))
    tower = keras.Model(image, x, name="tower")
    images = [keras.Input(shape, name=name) for name in ("anchor", "same", "other")]
    return keras.Model(images, Distances()(*map(tower, images)), name="siamese")


@keras.saving.register_keras_serializable("written")
class GraphAttention(layers.Layer):
    """A head that looks at the neighbors of each node."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width

    def build(self, shape: tuple[int, ...], *_: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.width), name="kernel")
        self.target = self.add_weight(shape=(self.width, 1), name="target")
        self.source = self.add_weight(shape=(self.width, 1), name="source")

    def call(self, states: Any, edges: Any) -> Any:
        x = ops.matmul(states, self.kernel)
        sources = ops.transpose(ops.matmul(x, self.source), (0, 2, 1))
        scores = ops.leaky_relu(ops.matmul(x, self.target) + sources)
        scores = ops.where(edges > 0, scores, -1e9)
        return ops.matmul(ops.softmax(scores, axis=-1), x)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}


def graph_attention() -> keras.Model:
    """Two layers of heads on the nodes of a graph, given its adjacency matrix."""
    states = keras.Input((6, 10), name="states")
    edges = keras.Input((6, 6), name="edges")
    x = layers.Dense(16, activation="relu")(states)
    for _ in range(2):
        heads = [GraphAttention(8)(x, edges) for _ in range(2)]
        x = layers.Add()([layers.Concatenate()(heads), x])
        x = layers.ReLU()(x)
    outputs = layers.Dense(written.CLASSES)(x)
    return keras.Model([states, edges], outputs, name="graph_attention")


@keras.saving.register_keras_serializable("written")
class CTCLoss(layers.Layer):
    """Adds the loss of connectionist temporal classification, returns what it gets."""

    def call(self, labels: Any, predictions: Any) -> Any:
        count, steps, _ = ops.shape(predictions)
        ones = ops.ones((count,), "int32")
        loss = ops.ctc_loss(
            labels,
            ops.log(predictions + 1e-7),
            ones * labels.shape[1],
            ones * steps,
            mask_index=TOKENS,
        )
        self.add_loss(ops.mean(loss))
        return predictions


def ocr() -> keras.Model:
    """Characters of an image of a word, with the loss in the last layer."""
    images = keras.Input((32, 8, 1), name="images")
    labels = keras.Input((3,), dtype="int32", name="labels")
    x = images
    for width in (8, 16):
        x = layers.Conv2D(width, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(16, activation="relu")(layers.Reshape((8, 32))(x))
    x = layers.Dropout(0.2)(x)
    for width in (12, 8):
        x = layers.Bidirectional(
            layers.LSTM(width, return_sequences=True, dropout=0.25)
        )(x)
    x = layers.Dense(TOKENS + 1, activation="softmax", name="characters")(x)
    return keras.Model([images, labels], CTCLoss(name="loss")(labels, x), name="ocr")


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "ViT": written.vit,
    "Swin": written.swin,
    "MLP-Mixer": written.mlp_mixer,
    "ConvMixer": written.conv_mixer,
    "Conformer": conformer,
    "DDPM U-Net": written.ddpm_unet,
    "text transformer": text_transformer,
    "Siamese": siamese,
    "graph attention": graph_attention,
    "keypoint": written.keypoint,
    "OCR with CTC": ocr,
}
"""By its name, what builds it."""
