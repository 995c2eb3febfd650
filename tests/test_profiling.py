import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from experiments.networks import models
from pgmpf_tf.profiling import profile


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet20", 40_550_400),
        ("resnet32", 68_861_952),
        ("resnet56", 125_485_056),
        ("resnet110", 252_887_040),
    ],
)
def test_cifar_resnets_have_the_published_macs(name, macs):
    model = models.build(name, input_shape=(32, 32, 3), num_classes=10)
    cost = profile(model)
    assert cost.conv_macs == macs
    assert cost.macs == macs + 64 * 10
    assert cost.params == model.count_params()


LAYERS = {
    "conv1d": ((9, 4), lambda: layers.Conv1D(5, 3, strides=2)),
    "conv2d": ((9, 8, 4), lambda: layers.Conv2D(6, (3, 2))),
    "strided": ((9, 8, 4), lambda: layers.Conv2D(6, 3, strides=2)),
    "dilated": ((9, 8, 4), lambda: layers.Conv2D(6, 3, dilation_rate=2)),
    "grouped": ((9, 8, 4), lambda: layers.Conv2D(6, 3, groups=2)),
    "conv3d": ((5, 6, 7, 2), lambda: layers.Conv3D(3, 2)),
    "depthwise1d": ((9, 4), lambda: layers.DepthwiseConv1D(3)),
    "depthwise": ((9, 8, 4), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "transposed1d": ((5, 4), lambda: layers.Conv1DTranspose(3, 4, strides=2)),
    "transposed": ((5, 6, 4), lambda: layers.Conv2DTranspose(3, 4, strides=2)),
    "dense": ((7,), lambda: layers.Dense(5)),
    "dense_on_a_sequence": ((6, 7), lambda: layers.Dense(5)),
    "einsum": ((6, 7), lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 5))),
    "einsum_any_rank": ((6, 7), lambda: layers.EinsumDense("...x,xy->...y", 5)),
    "einsum_two_axes": ((6, 3, 5), lambda: layers.EinsumDense("abcd,cde->abe", (6, 2))),
}


@pytest.mark.parametrize("case", LAYERS)
def test_macs_are_what_a_layer_of_ones_adds_up(case):
    """With ones for input and kernel, every multiply-accumulate adds one."""
    shape, make = LAYERS[case]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    layer.set_weights(
        [
            np.zeros(w.shape) if w.name == "bias" else np.ones(w.shape)
            for w in layer.weights
        ]
    )
    outputs = model(np.ones((1, *shape), "float32"))
    assert profile(model).macs == int(keras.ops.convert_to_numpy(outputs).sum())


@pytest.mark.parametrize("rank", [1, 2])
def test_separable_is_depthwise_and_pointwise(rank):
    shape = (9, 8, 4)[-rank - 1 :]
    separable = getattr(layers, f"SeparableConv{rank}D")
    depthwise = getattr(layers, f"DepthwiseConv{rank}D")
    pointwise = getattr(layers, f"Conv{rank}D")
    one = keras.Sequential([keras.Input(shape), separable(5, 3, depth_multiplier=2)])
    two = keras.Sequential(
        [keras.Input(shape), depthwise(3, depth_multiplier=2), pointwise(5, 1)]
    )
    assert profile(one).macs == profile(two).macs > 0
    assert profile(one).conv_macs == profile(one).macs


def test_attention_is_its_projections_and_two_products():
    query, value = keras.Input((6, 8)), keras.Input((5, 7))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4)
    model = keras.Model([query, value], attention(query, value))
    mixed = keras.Input((6, 2 * 4))
    projections = keras.Model(
        [query, value, mixed],
        [
            layers.Dense(2 * 3)(query),
            layers.Dense(2 * 3)(value),
            layers.Dense(2 * 4)(value),
            layers.Dense(8)(mixed),
        ],
    )
    products = 2 * 6 * 5 * (3 + 4)
    assert profile(model).macs == profile(projections).macs + products


@pytest.mark.feature("`profile`")
def test_a_shared_layer_costs_its_parameters_once_and_its_macs_per_call():
    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    once = profile(keras.Model(inputs, shared(inputs)))
    twice = profile(keras.Model(inputs, shared(shared(inputs))))
    assert twice.macs == 2 * once.macs
    assert twice.params == once.params == 3 * 3 * 3 * 3 + 3
    assert [row.calls for row in twice.layers] == [2]


def test_weights_that_two_layers_hold_count_once():
    class Unembedding(layers.Layer):
        """Scores by the very vectors of an embedding."""

        def __init__(self, embedding):
            super().__init__()
            self.embedding = embedding

        def call(self, x):
            vectors = self.embedding.embeddings
            return keras.ops.matmul(x, keras.ops.transpose(vectors))

    tokens = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(10, 4)
    model = keras.Model(tokens, Unembedding(embedding)(embedding(tokens)))
    assert profile(model).params == model.count_params() == 10 * 4


def test_a_nested_model_costs_what_its_layers_cost():
    block = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
    head = layers.Flatten()
    flat = keras.Sequential([keras.Input((8, 8, 3)), *block, head])
    inner = keras.Sequential([keras.Input((8, 8, 3)), *block])
    nested = keras.Sequential([keras.Input((8, 8, 3)), inner, head])
    assert profile(nested).layers == profile(flat).layers
    assert profile(flat).params == flat.count_params()


def test_channels_first_costs_the_same():
    last = keras.Sequential([keras.Input((9, 8, 4)), layers.Conv2D(6, 3)])
    first = keras.Sequential(
        [keras.Input((4, 9, 8)), layers.Conv2D(6, 3, data_format="channels_first")]
    )
    assert profile(first).macs == profile(last).macs


def test_a_layer_without_a_rule_is_named():
    memory = layers.ConvLSTM1D(4, 3, name="memory")
    model = keras.Sequential([keras.Input((5, 6, 3)), memory])
    assert profile(model).uncounted == ("memory",)
    tokens = keras.Sequential([keras.Input((5,)), layers.Embedding(10, 4)])
    assert profile(tokens).uncounted == ()


def convolutions(size):
    x = keras.Input((*size, 3))
    y = layers.Conv2D(6, 3, strides=2, name="stem")(x)
    y = layers.Conv2D(4, 3, padding="same")(layers.MaxPooling2D(2)(y))
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))


def test_sizes_that_are_open_count_as_those_of_an_image():
    cost = profile(convolutions((None, None)))
    assert cost.macs == profile(convolutions((224, 224))).macs
    assert cost.counted_at == ((None, 224, 224, 3),)
    assert "224 x 224 x 3" in cost.__rich__().caption
    assert profile(convolutions((32, 32))).counted_at == ()


def test_steps_that_are_open_count_as_those_of_a_sequence():
    def dense(steps):
        return keras.Sequential([keras.Input((steps, 3)), layers.Dense(5)])

    assert profile(dense(None)).macs == profile(dense(128)).macs == 128 * 15


def test_what_is_no_built_model_is_an_error():
    with pytest.raises(TypeError, match=r"keras\.Model"):
        profile("resnet20")
    with pytest.raises(ValueError, match="built"):
        profile(keras.Sequential([layers.Dense(3)]))


def test_windows_in_the_batch_are_all_counted():
    x = keras.Input((8, 8, 6))
    y = ops.transpose(ops.reshape(x, (-1, 2, 4, 2, 4, 6)), (0, 1, 3, 2, 4, 5))
    y = layers.Dense(5)(ops.reshape(y, (-1, 16, 6)))  # four windows of an image
    scores = ops.matmul(y, ops.transpose(y, (0, 2, 1)))
    z = ops.reshape(ops.matmul(scores, y), (-1, 2, 2, 4, 4, 5))
    z = ops.reshape(ops.transpose(z, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 5))
    model = keras.Model(x, layers.Conv2D(3, 1)(z))
    products = 2 * 4 * 16 * 16 * 5
    assert profile(model).macs == 64 * 6 * 5 + products + 64 * 5 * 3


class Table(layers.Layer):
    """Multiplies by a table that it holds in another shape."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, shape[-1] ** 2), name="table")

    def call(self, x):
        return ops.matmul(x, ops.reshape(self.table, (x.shape[-1], x.shape[-1])))


def test_a_table_of_weights_has_no_batch():
    model = keras.Sequential([keras.Input((5, 4)), Table(), layers.Dense(2)])
    small = pgmpf_tf.compact(model)
    assert profile(small).macs == profile(model).macs == 5 * 4 * (4 + 2)
