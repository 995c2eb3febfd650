"""Every rule: what it lets through is pruned, rebuilt narrower, and computes the same.

Each case is `conv(8 filters) -> the operation -> reader`. Half of the filters are
pruned; the small model must equal the masked one, and the convolution must have lost
what was pruned, or be pinned for the reason the case names.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.applications.convnext import LayerScale

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from tests.graphs import deviation, outputs_of, randomize, samples


def shuffle(x):
    y = ops.reshape(x, (-1, 6, 6, 2, 4))
    return ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, 6, 6, 8))


def gate(x):
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    hidden = layers.Conv2D(4, 1, activation="relu")(squeezed)
    return x * layers.Conv2D(8, 1, activation="sigmoid")(hidden)


def split(x):
    a, b = ops.split(x, [3], axis=-1)
    return ops.concatenate([b, ops.relu(a)], axis=-1)


def vector(x):
    return layers.RepeatVector(4)(layers.GlobalMaxPooling2D()(x))


def twice(x):
    return layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])


def flat(*then):
    return keras.Sequential([layers.Flatten(), *then])


def image(filters=8):
    x = keras.Input((6, 6, 3))
    return x, layers.Conv2D(filters, 3, padding="same", name="first")(x)


def sequence():
    x = keras.Input((7, 3))
    return x, layers.Conv1D(8, 3, padding="same", name="first")(x)


def volume():
    x = keras.Input((4, 4, 4, 2))
    return x, layers.Conv3D(8, 1, name="first")(x)


class OneAffine(layers.Layer):
    """One scale and one offset for all channels, as PP-HGNetV2 has them."""

    def build(self, shape):
        self.scale, self.offset = (
            self.add_weight(shape=(), initializer="ones") for _ in range(2)
        )

    def call(self, x):
        return x * self.scale + self.offset


def channels_of(x):
    return np.linspace(0.5, 2, x.shape[-1]).astype("float32")


IMAGE = {
    "conv": layers.Conv2D(5, 3),
    "conv_strided_dilated": layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "conv_groups_few": layers.Conv2D(6, 3, groups=2),
    "conv_groups_many": layers.Conv2D(8, 3, groups=4),
    "conv_groups_all": layers.Conv2D(16, 3, groups=8),
    "conv_transpose": layers.Conv2DTranspose(5, 3, strides=2),
    "depthwise": layers.DepthwiseConv2D(3),
    "depthwise_multiplier": layers.DepthwiseConv2D(3, depth_multiplier=3),
    "depthwise_relu": layers.DepthwiseConv2D(3, activation="relu", use_bias=False),
    "separable": layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"),
    "dense_4d": layers.Dense(5),
    "sigmoid": layers.Activation("sigmoid"),
    "sigmoid_padded": lambda x: layers.Conv2D(5, 3, padding="same")(ops.sigmoid(x)),
    "sigmoid_depthwise": lambda x: layers.Conv2D(5, 1)(
        layers.DepthwiseConv2D(3, padding="same")(ops.sigmoid(x))
    ),
    "sigmoid_groups_all": lambda x: layers.Conv2D(16, 3, padding="same", groups=8)(
        ops.sigmoid(x)
    ),
    "sigmoid_separable": lambda x: layers.SeparableConv2D(5, 3)(ops.sigmoid(x)),
    "sigmoid_pooled": lambda x: layers.GlobalMaxPooling2D()(ops.sigmoid(x)),
    "mean_channels": lambda x: x * ops.mean(x, axis=-1, keepdims=True),
    "plus_one": lambda x: x * 2 + 1,
    "plus_one_transposed": lambda x: layers.Conv2DTranspose(5, 3)(x * 2 + 1),
    "one_affine": lambda x: layers.Conv2D(5, 3, padding="same")(OneAffine()(x)),
    "one_affine_einsum": lambda x: layers.EinsumDense("...x,xy->...y", 5)(
        OneAffine()(x)
    ),
    "softplus_conv": lambda x: layers.Conv2D(5, 3, use_bias=False)(ops.softplus(x)),
    "softplus_groups": lambda x: layers.Conv2D(6, 1, groups=2)(ops.softplus(x)),
    "softplus_einsum": lambda x: layers.EinsumDense("...x,xy->...y", 5)(
        ops.softplus(x)
    ),
    "layer_norm": layers.LayerNormalization(),
    "layer_norm_unscaled": layers.LayerNormalization(scale=False),
    "layer_norm_uncentered": layers.LayerNormalization(center=False, epsilon=0.1),
    "rms_norm": layers.RMSNormalization(epsilon=0.1),
    "group_norm": layers.GroupNormalization(4),
    "group_norm_one": layers.GroupNormalization(1),
    "instance_norm": layers.GroupNormalization(-1),
    "unit_norm": layers.UnitNormalization(),
    "einsum_dense": layers.EinsumDense("...x,xy->...y", 5, bias_axes="y"),
    "batchnorm": layers.BatchNormalization(),
    "batchnorm_no_scale": layers.BatchNormalization(scale=False),
    "batchnorm_no_center": layers.BatchNormalization(center=False),
    "batchnorm_bare": layers.BatchNormalization(center=False, scale=False),
    "prelu": layers.PReLU(),
    "prelu_shared": layers.PReLU(shared_axes=[1, 2]),
    "layer_scale": LayerScale(0.5, 8),
    "relu": layers.ReLU(max_value=2.0),
    "leaky_relu": layers.LeakyReLU(),
    "elu": layers.ELU(),
    "swish": layers.Activation("swish"),
    "tanh_op": ops.tanh,
    "relu6_function": lambda x: keras.activations.relu(x, max_value=6.0),
    "dropout": layers.Dropout(0.3),
    "spatial_dropout": layers.SpatialDropout2D(0.3),
    "noise": layers.GaussianNoise(0.3),
    "max_pool": layers.MaxPooling2D(2),
    "average_pool": layers.AveragePooling2D(2, padding="same"),
    "global_pool": layers.GlobalAveragePooling2D(),
    "global_pool_keepdims": layers.GlobalMaxPooling2D(keepdims=True),
    "zero_padding": layers.ZeroPadding2D(1),
    "cropping": layers.Cropping2D(1),
    "upsampling": layers.UpSampling2D(2, interpolation="bilinear"),
    "resizing": layers.Resizing(4, 4),
    "flatten": layers.Flatten(),
    "flatten_batchnorm": flat(layers.BatchNormalization(), layers.ReLU()),
    "permute": layers.Permute((3, 1, 2)),
    "reshape": layers.Reshape((36, 8)),
    "reshape_inferred": layers.Reshape((-1, 8)),
    "repeat_vector": vector,
    "rescaling": layers.Rescaling(2.0),
    "add_self": twice,
    "constant_product": lambda x: x * channels_of(x),
    "scalar_product": lambda x: x * 2 / 3,
    "pad_op": lambda x: ops.pad(x, [(0, 0), (1, 1), (0, 2), (0, 0)]),
    "pad_channels": lambda x: ops.pad(x, [(0, 0), (0, 0), (0, 0), (2, 1)]),
    "slice": lambda x: x[..., :5],
    "slice_spatial": lambda x: x[:, ::2, 1:, :],
    "index": lambda x: x[:, :, 2],
    "split": split,
    "gate": gate,
    "shuffle": shuffle,
    "mean": lambda x: ops.mean(x, axis=(1, 2)),
    "max": lambda x: ops.max(x, axis=1, keepdims=True),
    "take_along_axis": lambda x: ops.take_along_axis(
        x, ops.argmax(ops.mean(x, (2, 3), keepdims=True), 1, keepdims=True), axis=1
    ),
    "mean_of_heads": lambda x: ops.mean(ops.reshape(x, (-1, 6, 6, 4, 2)), axis=-1),
    "max_of_heads": lambda x: ops.max(
        ops.reshape(x, (-1, 36, 4, 2)), axis=(1, 3), keepdims=True
    ),
    "expand": lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
    "flip": lambda x: ops.flip(x, axis=-1),
    "repeat": lambda x: ops.repeat(x, 2, axis=-1),
    "swapaxes": lambda x: ops.swapaxes(x, 1, 3),
    "moveaxis": lambda x: ops.moveaxis(x, 3, 1),
    "concatenate": lambda x: layers.Concatenate()([x, ops.relu(x)]),
    "concatenate_spatial": lambda x: ops.concatenate([x, ops.relu(x)], axis=1),
    "maximum": lambda x: layers.Maximum()([x, ops.tanh(x)]),
    "minimum": lambda x: ops.minimum(x, ops.relu(x)),
    "average": lambda x: layers.Average()([x, ops.relu(x), x]),
    "subtract": lambda x: layers.Subtract()([x, ops.relu(x)]),
    "multiply": lambda x: layers.Multiply()([x, ops.relu(x)]),
}
if hasattr(layers, "AdaptiveAveragePooling2D"):  # Keras 3.13
    IMAGE["adaptive_pool"] = layers.AdaptiveAveragePooling2D(2)
SEQUENCE = {
    "conv1d": layers.Conv1D(5, 3, padding="causal"),
    "conv1d_transpose": layers.Conv1DTranspose(5, 3),
    "depthwise1d": layers.DepthwiseConv1D(3),
    "separable1d": layers.SeparableConv1D(5, 3),
    "dense_3d": layers.Dense(5),
    "layer_norm_3d": layers.LayerNormalization(),
    "group_norm_3d": layers.GroupNormalization(1),
    "rms_norm_3d": layers.RMSNormalization(),
    "pool1d": layers.AveragePooling1D(2),
    "global_pool1d": layers.GlobalAveragePooling1D(),
    "crop_pad1d": keras.Sequential([layers.Cropping1D(1), layers.ZeroPadding1D(2)]),
    "upsampling1d": layers.UpSampling1D(2),
}
VOLUME = {
    "conv3d": layers.Conv3D(5, 2),
    "conv3d_transpose": layers.Conv3DTranspose(5, 2),
    "pool3d": layers.MaxPooling3D(2),
    "pad3d": keras.Sequential([layers.ZeroPadding3D(1), layers.Cropping3D(1)]),
    "upsampling3d": layers.UpSampling3D(2),
}
PASSING = [
    *((image, name) for name in IMAGE),
    *((sequence, name) for name in SEQUENCE),
    *((volume, name) for name in VOLUME),
]
PINNED = {
    "sigmoid_groups": (
        lambda x: layers.Conv2D(6, 3, padding="same", groups=2)(ops.sigmoid(x)),
        "would put 0.5 into",
    ),
    "infinite": (
        lambda x: layers.Conv2D(5, 3, padding="same")(ops.reciprocal(x)),
        "would put a value that depends",
    ),
    "infinite_groups": (
        lambda x: layers.Conv2D(8, 3, padding="same", groups=8)(ops.reciprocal(x)),
        "would put a value that depends",
    ),
    "infinite_in_a_sum": (
        lambda x: layers.Dense(5)(layers.Dense(8)(x) + ops.log(ops.abs(x))),
        "would put a value that depends",
    ),
    "infinite_perhaps": (
        lambda x: layers.Dense(5)(1 / layers.LayerNormalization(scale=False)(x)),
        "would put a value that depends",
    ),
    "softmax": (layers.Softmax(), "needs all channels"),
    "activation_softmax": (layers.Activation("softmax"), "across channels"),
    "layer_norm_all_axes": (layers.LayerNormalization([1, 2, 3]), "last axis alone"),
    "layer_norm_of_constants": (
        lambda x: layers.LayerNormalization()(ops.sigmoid(x)),
        "would put 0.5 into",
    ),
    "max_channels": (lambda x: ops.max(x, axis=-1, keepdims=True), "over channels"),
    "unknown": (layers.Lambda(lambda x: x[..., ::-1]), "Lambda"),
    "stepped": (lambda x: x[..., ::2], "with a step"),
    "take_each_elsewhere": (
        lambda x: ops.take_along_axis(
            x, ops.cast(ops.zeros_like(x[:, :1]), "int32"), axis=1
        ),
        "at a place of its own",
    ),
    "dropout_always": (lambda x: layers.Dropout(0.1)(x, training=True), "random"),
}


def model_of(start, operation) -> keras.Model:
    inputs, x = start()
    y = operation(x)
    if isinstance(y, tuple):
        y = y[0]
    y = layers.Dense(4, name="reader")(layers.Flatten()(y))
    model = keras.Model(inputs, y)
    randomize(model)
    return model


def pruned(model, **options):
    wrapped = pgmpf_tf.wrap(model, rate=0.5, **options)
    wrapped.apply_masks()
    return wrapped


def filters_of(model, name="first") -> int:
    layer = model.get_layer(name)
    return layer.filters


@pytest.mark.parametrize(("start", "name"), PASSING, ids=[n for _, n in PASSING])
def test_lets_pruned_channels_through(start, name):
    operation = (IMAGE | SEQUENCE | VOLUME)[name]
    if isinstance(operation, layers.Layer):
        config = keras.saving.serialize_keras_object(operation)
        operation = keras.saving.deserialize_keras_object(config)
    wrapped = pruned(model_of(start, operation))
    small = pgmpf_tf.compact(wrapped)
    x = samples(wrapped)
    # Narrower sums are added up in another order: float32 rounding.
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    if name == "conv_groups_many":  # whole groups go: two of four
        assert filters_of(small) == 4
    elif name == "slice":  # filters 5..7 are read by nobody
        assert filters_of(small) <= 4
    else:
        assert filters_of(small) == 4
    assert small.count_params() < wrapped.count_params()


@pytest.mark.parametrize("name", PINNED)
def test_pins_what_would_not_be_exact(name):
    operation, reason = PINNED[name]
    model = model_of(image, operation)
    pins = [pin for pin in analyze(model).pins if pin.layer == "first"]
    assert sum(pin.filters for pin in pins) == 8
    assert reason in pins[0].reason


@pytest.mark.parametrize("name", PINNED)
def test_zeros_before_a_barrier_are_exact(name):
    model = model_of(image, PINNED[name][0])
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., ::3], bias[::3] = 0, 0
    model.get_layer("first").set_weights([kernel, bias])
    small = pgmpf_tf.compact(model)
    x = samples(model)
    if name == "dropout_always":  # random at inference: only the shape is certain
        assert outputs_of(model, x)[0].shape == outputs_of(small, x)[0].shape
    else:
        assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
    assert small.count_params() <= model.count_params()


def test_independent_coupling_keeps_the_sum_wide():
    inputs, x = image()
    y = layers.Conv2D(8, 3, padding="same", name="second")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="reader")(x + y))
    randomize(model)
    grouped = analyze(model)
    independent = analyze(model, coupling="independent")
    assert grouped.unit_count == 8
    assert independent.unit_count == 16
    wrapped = pruned(model, coupling="independent")
    small = pgmpf_tf.compact(wrapped)
    assert filters_of(small, "first") == filters_of(small, "second") == 4
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


@pytest.mark.parametrize("groups", [2, 8])
def test_grouped_convolution_keeps_equal_groups(groups):
    inputs, x = image()
    x = layers.Conv2D(16, 3, groups=groups, name="grouped")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="reader")(x))
    randomize(model)
    wrapped = pruned(model)
    small = pgmpf_tf.compact(wrapped)
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert filters_of(small) == 4
    assert filters_of(small, "grouped") == 8
    assert small.get_layer("grouped").groups == (2 if groups == 2 else 4)


def test_channels_first():
    x = keras.Input((3, 6, 6))
    options = {"data_format": "channels_first"}
    y = layers.Conv2D(8, 3, name="first", **options)(x)
    y = layers.BatchNormalization(axis=1)(y)
    y = layers.PReLU(shared_axes=[2, 3])(y)
    y = layers.AveragePooling2D(2, **options)(y)
    y = layers.Flatten(**options)(y)
    model = keras.Model(x, layers.Dense(3, name="reader")(y))
    randomize(model)
    wrapped = pruned(model)
    small = pgmpf_tf.compact(wrapped)
    assert filters_of(small) == 4
    assert small.get_layer("reader").kernel.shape[0] == 4 * 2 * 2
    # Not model(x): run eagerly on a CPU, TensorFlow 2.21 computes some NCHW
    # convolutions with padding="valid" wrongly (a graph is right).
    x = samples(model)
    masked, less = (m.predict(x, verbose=0) for m in (wrapped, small))
    assert deviation([masked], [less]) < 2e-6
