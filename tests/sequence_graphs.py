"""Random graphs over sequences, with Keras masks on many of their tensors."""

from __future__ import annotations

import keras
from keras import layers, ops

from tests.graphs import TOKENS
from tests.image_graphs import ACTIVATIONS, GraphMaker


class SequenceMaker(GraphMaker):
    """Grows a graph by random steps over a pool of 3-D tensors of one length."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.size = int(self.rng.integers(4, 8))
        self.inputs, self.pool = [], []
        for i in range(self.rng.integers(1, 3)):
            tokens = keras.Input((self.size,), dtype="int32", name=f"tokens{i}")
            self.inputs.append(tokens)
            embedding = layers.Embedding(
                TOKENS, self.width(), mask_zero=self.rng.random() < 0.8
            )
            self.pool.append(embedding(tokens))
        if self.rng.random() < 0.3:
            values = keras.Input((self.size, 3), name="values")
            self.inputs.append(values)
            self.pool.append(layers.Dense(self.width())(layers.Masking()(values)))

    def partner(self, x):
        other = self.pick()
        if other.shape[-1] != x.shape[-1] or self.rng.random() < 0.3:
            other = layers.Dense(x.shape[-1], use_bias=False)(other)
        return other

    def finish(self, x):
        return self.choice(
            layers.GlobalAveragePooling1D(),
            layers.GlobalMaxPooling1D(),
            layers.LSTM(3),
            layers.Bidirectional(layers.GRU(2)),
        )(x)

    def outputs(self):
        outputs = [layers.Dense(3, name="classes")(self.finish(self.pool[-1]))]
        if self.rng.random() < 0.3:
            outputs.append(layers.Dense(2, name="tags")(self.pick()))
        if self.rng.random() < 0.2:
            outputs.append(layers.ReLU(name="features")(self.pick()))
        return outputs

    def step_dense(self, x):
        activation = self.choice(*ACTIVATIONS)
        return layers.Dense(self.width(), activation=activation)(x)

    step_dense_again = step_dense

    def step_conv(self, x):
        padding = self.choice("same", "causal")
        return layers.Conv1D(self.width(), 3, padding=padding)(x)

    def step_activation(self, x):
        return self.choice(
            layers.ReLU(),
            layers.LeakyReLU(),
            layers.PReLU(shared_axes=[1]),
            layers.Activation("linear"),
            layers.Activation("softmax"),
            layers.Dropout(0.5),
            layers.SpatialDropout1D(0.5),
            ops.tanh,
            lambda x: x * 2 - 1,
        )(x)

    def step_attention(self, x):
        other = self.partner(x)
        return self.choice(
            lambda: layers.MultiHeadAttention(2, 3)(x, x),
            lambda: layers.MultiHeadAttention(1, 4)(x, other, use_causal_mask=True),
            lambda: layers.MultiHeadAttention(2, 2, use_gate=True)(other, x, x),
            lambda: layers.GroupQueryAttention(2, 4, 2)(x, other),
            lambda: layers.GroupQueryAttention(3, 3, 3, use_bias=False)(x, x),
            lambda: layers.Attention()([x, other]),
            lambda: layers.AdditiveAttention()([x, other, other]),
        )()

    def projected(self, x, heads, size):
        if self.rng.random() < 0.5:
            y = layers.Dense(heads * size, use_bias=self.rng.random() < 0.5)(x)
            return ops.reshape(y, (-1, x.shape[1], heads, size))
        return layers.EinsumDense(
            "abc,cde->abde", (x.shape[1], heads, size), bias_axes="de"
        )(x)

    def step_written_attention(self, x):
        """Attention as it is written out in models."""
        heads, size = self.choice(1, 2, 3), self.choice(1, 2)
        steps, other = x.shape[1], self.partner(x)
        q, k = self.projected(x, heads, size), self.projected(other, heads, size)
        v = self.projected(other, heads, size)
        if self.rng.random() < 0.3:
            q, k = q * 0.5, ops.roll(k, 1, axis=1)
        if self.rng.random() < 0.3:
            norm = self.choice(
                layers.RMSNormalization,
                layers.UnitNormalization,
                layers.LayerNormalization,
            )
            q, k = norm()(q), norm()(k)
        bias = self.rng.normal(size=(1, heads, steps, steps)).astype("float32")
        bias[:, self.rng.random(heads) < 0.3] = 0

        def by_matmul():
            one, two, three = (ops.transpose(y, (0, 2, 1, 3)) for y in (q, k, v))
            scores = ops.matmul(one, ops.swapaxes(two, 2, 3)) + bias
            return ops.transpose(ops.matmul(ops.softmax(scores), three), (0, 2, 1, 3))

        def by_einsum():
            scores = ops.einsum("btnh,bsnh->bnts", q, k)
            scores = ops.where(bias > 0, scores, -1e9)
            return ops.einsum("bnts,bsnh->btnh", layers.Softmax()(scores), v)

        y = self.choice(
            by_matmul,
            by_einsum,
            lambda: ops.dot_product_attention(q, k, v, bias=bias),
            lambda: ops.dot_product_attention(q, k, v, is_causal=True),
        )()
        if self.rng.random() < 0.5:
            return layers.EinsumDense("abde,dec->abc", (steps, self.width()))(y)
        return ops.reshape(y, (-1, steps, heads * size))

    step_written_again = step_written_attention

    def step_shared_keys(self, x):
        """Two queries for each key; the place with the largest mean is taken of all."""
        steps, groups, other = x.shape[1], self.choice(1, 2), self.partner(x)
        q = ops.reshape(self.projected(x, 2 * groups, 2), (-1, steps, groups, 2, 2))
        k, v = self.projected(other, groups, 2), self.projected(other, groups, 2)
        weights = ops.softmax(ops.einsum("btkgh,bskh->bkgts", q, k))
        y = ops.einsum("bkgts,bskh->btkgh", weights, v)
        y = ops.reshape(y, (-1, steps, 4 * groups))
        place = ops.argmax(ops.mean(x, axis=-1, keepdims=True), axis=1, keepdims=True)
        return y + ops.take_along_axis(y, place, axis=1)

    def step_fused(self, x):
        """Queries, keys and values of one layer."""
        steps = x.shape[1]
        y = layers.Dense(3 * 2 * 2)(x)
        y = ops.reshape(y, (-1, steps, 3, 2, 2))
        q, k, v = self.choice(
            lambda: ops.unstack(y, axis=2),
            lambda: ops.unstack(ops.transpose(y, (2, 0, 1, 3, 4)), axis=0),
            lambda: [y[:, :, i] for i in range(3)],
        )()
        y = ops.dot_product_attention(q, k, ops.stack([v[..., 1], v[..., 0]], axis=-1))
        return ops.reshape(y, (-1, steps, 4))

    def step_einsum(self, x):
        _, steps, c = x.shape
        return self.choice(
            lambda: layers.EinsumDense("abc,cd->abd", (steps, 4), activation="relu"),
            lambda: layers.EinsumDense("...c,cd->...d", 5, bias_axes="d"),
            lambda: layers.EinsumDense("abc,c->abc", (steps, c), bias_axes="c"),
            lambda: layers.EinsumDense("abc,bdc->adc", (steps, c), bias_axes="d"),
        )()(x)

    def step_block(self, x):
        attended = layers.MultiHeadAttention(2, 3)(x, x)
        y = layers.LayerNormalization()(layers.Add()([x, attended]))
        hidden = layers.Dense(self.width(), activation="gelu")(y)
        return layers.Add()([y, layers.Dense(x.shape[-1])(hidden)])

    def step_recurrent(self, x):
        kind = self.choice(layers.LSTM, layers.GRU, layers.SimpleRNN)
        layer = kind(self.width(), return_sequences=True)
        return layers.Bidirectional(layer)(x) if self.rng.random() < 0.3 else layer(x)

    def step_spatial(self, x):
        return self.choice(
            lambda: layers.MaxPooling1D(2, strides=1, padding="same")(x),
            lambda: layers.Cropping1D(1)(layers.ZeroPadding1D(1)(x)),
            lambda: layers.TimeDistributed(layers.Dense(4))(x),
            lambda: ops.flip(x, axis=1),
        )()

    def step_gate(self, x):
        pooled = self.finish(x)
        gate = layers.Dense(x.shape[-1], activation="sigmoid")(pooled)
        return x * layers.Reshape((1, x.shape[-1]))(gate)

    def step_concatenate_spatial(self, x):
        both = layers.Concatenate(axis=1)([x, self.partner(x)])
        return layers.MaxPooling1D(2)(both)

    def step_shuffle(self, x):
        _, steps, c = x.shape
        y = ops.reshape(x, (-1, steps, 2, c // 2)) if c % 2 == 0 else x[:, :, None]
        return ops.reshape(ops.swapaxes(y, 2, 3), (-1, steps, c))

    def step_pad_channels(self, x):
        return ops.pad(x, [(0, 0), (0, 0), (int(self.rng.integers(0, 3)), 1)])

    def step_move(self, x):
        _, steps, c = x.shape
        return self.choice(
            lambda: layers.Permute((2, 1))(layers.Permute((2, 1))(x)),
            lambda: layers.Reshape((steps, c))(layers.Flatten()(x)),
            lambda: ops.flip(x, axis=-1),
            lambda: ops.repeat(x, 2, axis=-1),
        )()

    def step_shared(self, x):
        shared = layers.Dense(x.shape[-1], activation="relu")
        return self.choice(
            lambda: shared(shared(x)),
            lambda: layers.Add()([x, shared(self.partner(x))]),
        )()

    def step_nested(self, x):
        c = x.shape[-1]
        one, two = keras.Input((self.size, c)), keras.Input((self.size, c))
        y = layers.Dense(self.width())(one)
        inner = self.choice(
            lambda: keras.Model(one, layers.Dropout(0.1)(y)),
            lambda: keras.Model([one, two], layers.Add()([layers.Dense(c)(y), two])),
            lambda: keras.Model(one, layers.LSTM(3, return_sequences=True)(y)),
        )()
        if len(inner.inputs) > 1:
            return inner([x, self.partner(x)])
        return inner(x)

    # Steps of images only.
    step_grouped = step_strided = step_transposed = step_separable = step_dense
    step_depthwise = step_attention_map = step_conv_again = step_block
    step_broadcast_vector = step_attention
    step_barrier = step_norm = step_norm_again = step_recurrent
