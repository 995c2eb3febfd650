"""Random Keras graphs over images."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

ACTIVATIONS = [None, "relu", "swish", "tanh", "sigmoid", "gelu", "hard_sigmoid"]


@keras.saving.register_keras_serializable("tests")
class Unknown(layers.Layer):
    """A layer nobody has a rule for, which mixes channels."""

    def call(self, x):
        return x + ops.roll(x, 1, axis=-1)

    def compute_output_shape(self, input_shape):
        # Else Keras takes the product with a constant, which it calls sparse, for one.
        return input_shape


class Composite(layers.Layer):
    """A part of a graph inside a layer, with weights of the layer's own around it."""

    def __init__(self, inner, kind, **options):
        super().__init__(**options)
        self.inner, self.kind = inner, kind

    def build(self, shape):
        width = self.inner.output.shape[-1]
        self.scale = self.add_weight(shape=(width,), name="scale")
        self.offset = self.add_weight(shape=(1, 1, width), name="offset")
        if self.kind == "matrix":
            self.matrix = self.add_weight(shape=(width, width), name="matrix")

    def call(self, x):
        y = self.inner(x) * self.scale
        if self.kind == "matrix":
            return ops.matmul(y, self.matrix) + self.offset
        if self.kind == "token":
            token = ops.broadcast_to(self.offset, (ops.shape(x)[0], *y.shape[1:]))
            return ops.maximum(ops.concatenate([y, token], axis=1)[:, : y.shape[1]], 0)
        return ops.tanh(y) + self.offset


class GraphMaker:
    """Grows a graph by random steps over a pool of 4-D tensors of one size."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        size = int(self.rng.integers(4, 7))
        self.inputs = [
            keras.Input((size, size, int(self.rng.integers(2, 5))), name=f"in{i}")
            for i in range(self.rng.integers(1, 3))
        ]
        self.size = size
        self.pool = [layers.Conv2D(self.width(), 3, padding="same")(self.inputs[0])]
        self.pool += [layers.Conv2D(self.width(), 1)(x) for x in self.inputs[1:]]

    def width(self) -> int:
        return int(self.rng.integers(1, 5)) * 2

    def pick(self):
        recent = self.pool[-4:]
        return recent[self.rng.integers(len(recent))]

    def choice(self, *options):
        return options[self.rng.integers(len(options))]

    def partner(self, x):
        """A tensor of the same shape, made by an own convolution where needed."""
        other = self.pick()
        if other.shape[-1] != x.shape[-1] or self.rng.random() < 0.3:
            other = layers.Conv2D(x.shape[-1], 1, use_bias=False)(other)
        return other

    def sized(self, x):
        """Back to the pool's spatial size."""
        return layers.Resizing(self.size, self.size, interpolation="nearest")(x)

    def build(self, steps: int) -> keras.Model:
        """Grow, and close with one to three outputs."""
        names = sorted(n for n in dir(self) if n.startswith("step_"))
        for _ in range(steps):
            step = getattr(self, names[self.rng.integers(len(names))])
            self.pool.append(step(self.pick()))
        outputs = self.outputs()
        if len(outputs) > 1 and self.rng.random() < 0.3:
            outputs = {f"out{i}": y for i, y in enumerate(outputs)}
        inputs = self.inputs if len(self.inputs) > 1 else self.inputs[0]
        return keras.Model(inputs, outputs, name="random_graph")

    def outputs(self):
        """What the model puts out, from the pool."""
        x = self.pool[-1]
        if self.rng.random() < 0.3:
            x = layers.Flatten()(x)
            x = layers.BatchNormalization()(layers.Dense(6, activation="relu")(x))
        else:
            x = layers.GlobalAveragePooling2D()(x)
        outputs = [layers.Dense(3, activation="softmax", name="classes")(x)]
        if self.rng.random() < 0.4:
            outputs.append(layers.Conv2D(2, 1, name="map")(self.pick()))
        if self.rng.random() < 0.2:
            outputs.append(layers.ReLU(name="features")(self.pick()))
        return outputs

    # Every step maps a 4-D tensor of the pool's size to another one.

    def step_conv(self, x):
        return layers.Conv2D(
            self.width(),
            self.choice(1, 3),
            padding="same",
            use_bias=self.rng.random() < 0.5,
            activation=self.choice(*ACTIVATIONS),
        )(x)

    step_conv_again = step_conv

    def step_grouped(self, x):
        groups = self.choice(*(g for g in (1, 2, 4) if x.shape[-1] % g == 0))
        filters = groups * int(self.rng.integers(1, 4))
        return layers.Conv2D(filters, 3, padding="same", groups=groups)(x)

    def step_strided(self, x):
        return self.sized(layers.Conv2D(self.width(), 3, strides=2, padding="same")(x))

    def step_transposed(self, x):
        return self.sized(layers.Conv2DTranspose(self.width(), 2, strides=2)(x))

    def step_depthwise(self, x):
        return layers.DepthwiseConv2D(
            3,
            padding="same",
            depth_multiplier=self.choice(1, 2),
            use_bias=self.rng.random() < 0.5,
            activation=self.choice(None, "relu", "sigmoid"),
        )(x)

    def step_separable(self, x):
        return layers.SeparableConv2D(
            self.width(), 3, padding="same", depth_multiplier=self.choice(1, 2)
        )(x)

    def step_norm(self, x):
        y = layers.BatchNormalization(
            center=self.rng.random() < 0.7, scale=self.rng.random() < 0.7
        )(x)
        return layers.ReLU()(y) if self.rng.random() < 0.5 else y

    step_norm_again = step_norm

    def step_activation(self, x):
        return self.choice(
            layers.ReLU(max_value=6.0),
            layers.LeakyReLU(),
            layers.PReLU(),
            layers.PReLU(shared_axes=[1, 2]),
            layers.Activation("sigmoid"),
            layers.Softmax(),
            ops.relu,
            ops.softplus,
            lambda x: x * 2 + 1,
            lambda x: ops.exp(ops.negative(ops.abs(x))),
            lambda x: ops.clip(x, 0.1, 2.0),
            layers.Dropout(0.5),
            layers.GaussianNoise(0.1),
        )(x)

    def step_constant(self, x):
        vector = self.rng.normal(size=x.shape[-1]).astype("float32")
        vector[self.rng.random(x.shape[-1]) < 0.3] = 0
        return self.choice(
            lambda: x * vector, lambda: x + vector, lambda: ops.maximum(x, vector)
        )()

    def step_spatial(self, x):
        return self.choice(
            lambda: layers.MaxPooling2D(2, strides=1, padding="same")(x),
            lambda: layers.AveragePooling2D(3, strides=1, padding="same")(x),
            lambda: layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x)),
            lambda: self.sized(layers.UpSampling2D(2)(x)),
            lambda: ops.pad(x, [(0, 0), (1, 0), (1, 0), (0, 0)])[:, 1:, 1:, :],
            lambda: ops.flip(x, axis=1),
            lambda: self.sized(layers.AveragePooling2D(2)(x)),
        )()

    def step_barrier(self, x):
        return self.choice(layers.Softmax(), Unknown(), lambda x: ops.sort(x, axis=-1))(
            x
        )

    def step_statistics(self, x):
        """Normalization across channels, of every scale of variance."""
        groups = 2 if x.shape[-1] % 2 == 0 else 1
        return self.choice(
            layers.LayerNormalization(epsilon=0.1),
            layers.LayerNormalization(center=False),
            layers.LayerNormalization(scale=False),
            layers.RMSNormalization(epsilon=0.1),
            layers.GroupNormalization(1),
            layers.GroupNormalization(groups),
            layers.GroupNormalization(-1),
            layers.UnitNormalization(),
        )(x)

    step_statistics_again = step_statistics

    def step_dense(self, x):
        return self.choice(
            layers.Dense(self.width(), activation="relu"),
            layers.EinsumDense("abcd,de->abce", (*x.shape[1:3], 6), bias_axes="e"),
        )(x)

    def step_gate(self, x):
        squeezed = self.choice(
            lambda: layers.GlobalAveragePooling2D(keepdims=True)(x),
            lambda: ops.mean(x, axis=(1, 2), keepdims=True),
            lambda: layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalMaxPooling2D()(x)),
        )()
        hidden = layers.Conv2D(4, 1, activation="relu")(squeezed)
        gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(hidden)
        return layers.Multiply()([x, gate]) if self.rng.random() < 0.5 else x * gate

    def step_attention_map(self, x):
        return x * layers.Conv2D(1, 1, activation="sigmoid")(x)

    def step_join(self, x):
        kind = self.choice(
            layers.Add,
            layers.Add,
            layers.Subtract,
            layers.Multiply,
            layers.Average,
            layers.Maximum,
            layers.Minimum,
        )
        terms = [x, self.partner(x)]
        if kind not in (layers.Subtract,) and self.rng.random() < 0.3:
            terms.append(self.partner(x))
        return kind()(terms)

    def step_join_ops(self, x):
        other = self.partner(x)
        return self.choice(
            lambda: x + other,
            lambda: x - other,
            lambda: ops.minimum(x, other),
            lambda: ops.add(x, other) / 2,
        )()

    step_join_again = step_join

    def step_concatenate(self, x):
        return layers.Concatenate()([x, self.pick()])

    def step_concatenate_spatial(self, x):
        both = layers.Concatenate(axis=1)([x, self.partner(x)])
        return layers.MaxPooling2D((2, 1))(both)

    def step_shuffle(self, x):
        groups, (_, h, w, c) = 2, x.shape
        if c % groups:
            return x
        y = ops.reshape(x, (-1, h, w, groups, c // groups))
        return ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, h, w, c))

    def step_split(self, x):
        if x.shape[-1] < 2:
            return x
        at = int(self.rng.integers(1, x.shape[-1]))
        first, second = ops.split(x, [at], axis=-1)
        first = self.step_conv(first)
        return self.choice(
            lambda: ops.concatenate([second, first], axis=-1),
            lambda: first,
            lambda: x[..., at:],
            lambda: ops.concatenate([x[..., :at], first], axis=-1),
        )()

    def step_pad_channels(self, x):
        before = int(self.rng.integers(0, 3))
        return ops.pad(x, [(0, 0), (0, 0), (0, 0), (before, 2)])

    def step_move(self, x):
        _, h, w, c = x.shape
        return self.choice(
            lambda: layers.Permute((2, 1, 3))(x),
            lambda: layers.Reshape((w, h, c))(x),
            lambda: layers.Reshape((h, w, c))(
                layers.Conv1D(c, 3, padding="same")(layers.Reshape((-1, c))(x))
            ),
            lambda: ops.squeeze(ops.expand_dims(x, 3), 3),
            lambda: ops.flip(x, axis=-1),
            lambda: ops.repeat(x, 2, axis=-1),
            lambda: layers.Reshape((h, w, c))(layers.Flatten()(x)),
            lambda: layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x)),
        )()

    def step_broadcast_vector(self, x):
        vector = layers.Dense(x.shape[-1], activation="relu")(
            layers.GlobalAveragePooling2D()(x)
        )
        repeated = layers.RepeatVector(self.size * self.size)(vector)
        return x + layers.Reshape((self.size, self.size, x.shape[-1]))(repeated)

    def step_shared(self, x):
        shared = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")
        norm = layers.BatchNormalization()
        y = norm(shared(x))
        return self.choice(
            lambda: norm(shared(y)),
            lambda: layers.Concatenate()([y, shared(self.partner(x))]),
            lambda: layers.Add()([x, shared(y)]),
        )()

    def step_nested(self, x):
        c, width = x.shape[-1], self.width()
        inner = self.choice(
            lambda: keras.Sequential(
                [
                    keras.Input((None, None, c)),
                    layers.Conv2D(width, 3, padding="same"),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.Conv2D(c, 1),
                ]
            ),
            lambda: self._nested_functional(c, width),
        )()
        y = inner(x)
        return self.choice(lambda: y, lambda: inner(y), lambda: inner(y) + x)()

    def _nested_functional(self, c, width):
        inputs = keras.Input((self.size, self.size, c))
        y = layers.Conv2D(width, 1, activation="relu")(inputs)
        y = layers.Conv2D(c, 1)(y)
        return keras.Model(inputs, inputs + y)

    def step_composite(self, x):
        """A layer around a few steps; sometimes called again on what it returns."""
        inputs = keras.Input(x.shape[1:])
        before, self.pool = self.pool, [inputs]
        y = inputs
        names = ("step_conv", "step_norm", "step_join_ops", "step_split", "step_shared")
        for _ in range(self.rng.integers(1, 4)):
            y = getattr(self, names[self.rng.integers(len(names))])(y)
            self.pool.append(y)
        self.pool = before
        layer = Composite(
            keras.Model(inputs, y), self.choice("matrix", "token", "tanh")
        )
        y = layer(x)
        return layer(y) if y.shape == x.shape and self.rng.random() < 0.5 else y

    step_composite_again = step_composite
