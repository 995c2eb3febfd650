# %% [markdown]
# # Layers of your own
#
# pgmpf_tf follows channels through a network by a rule for each layer and operation of
# Keras. A layer of your own that is made of them needs nothing: its `call` is looked
# into. This page is about those that cannot be looked into, and about how to have a
# layer keep its class in the small network.

# %%
import keras
import numpy as np
from keras import layers, ops

import pgmpf_tf

keras.utils.set_random_seed(0)


def network(*between):
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, name="first"),
            *between,
            layers.Conv2D(16, 3, name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, name="outputs"),
        ]
    )


def check(dense):
    """Prunes half, and compares the small model with the masked one."""
    model = pgmpf_tf.wrap(dense, rate=0.5, seed=0)
    model.apply_masks()
    small = pgmpf_tf.compact(model)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(model(images), small(images), atol=1e-5)
    print(pgmpf_tf.compare(dense, small))
    print(" -> ".join(type(operation).__name__ for operation in small.operations[1:]))


# %% [markdown]
# ## A layer that is looked into
#
# Nothing has to be said about this activation. In the small network its operations
# stand in its place.


# %%
class Bump(keras.layers.Layer):
    def call(self, x):
        return x * ops.exp(-ops.square(x))


check(network(Bump()))

# %% [markdown]
# ## A layer that is not
#
# This one draws random numbers while it trains. What it does then cannot be read off
# what it does otherwise, so it is a *barrier*: the convolution before it stays whole,
# so that the result is right, only larger than it could be; `pruning_summary` says why.


# %%
@keras.saving.register_keras_serializable("guide")
class RandomLeakyReLU(keras.layers.Layer):
    def __init__(self, seed=None, **options):
        super().__init__(**options)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        slope = 0.2
        if training:
            slope = keras.random.uniform(ops.shape(x), 0.1, 0.3, seed=self.draws)
        return ops.where(x > 0, x, slope * x)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


pgmpf_tf.wrap(network(RandomLeakyReLU()), rate=0.5).pruning_summary()

# %% [markdown]
# It treats every element alike, so channels pass through it: `Elementwise`. What it
# makes of a zero is asked of the layer itself.

# %%
pgmpf_tf.register_rule(RandomLeakyReLU, pgmpf_tf.rules.Elementwise())
check(network(RandomLeakyReLU()))

# %% [markdown]
# ## A layer with a weight for each channel
#
# `PerChannel("scale")`: each entry of `scale` belongs to one channel. It lives and dies
# with the channel, and a narrower layer is built with the entries that are left. This
# layer would be looked into; with a rule it is a `Scale` in the small network, too.


# %%
@keras.saving.register_keras_serializable("guide")
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale


pgmpf_tf.register_rule(Scale, pgmpf_tf.rules.PerChannel("scale"))
check(network(Scale(), layers.ReLU()))

# %% [markdown]
# ## A layer of filters
#
# A subclass of a stock layer shares its rule if it also shares its `call`. If not, say
# that the rule still holds: `Mixing("filters")` is the one of convolutions, whose
# number of filters is the argument `filters`.


# %%
@keras.saving.register_keras_serializable("guide")
class PooledConv2D(layers.Conv2D):
    def call(self, x):
        return ops.average_pool(super().call(x), 2)


pgmpf_tf.register_rule(PooledConv2D, pgmpf_tf.rules.Mixing("filters"))
check(network(layers.ReLU(), PooledConv2D(16, 3, name="pooled")))

# %% [markdown]
# ## A rule of your own
#
# A layer unlike all of these wants a rule class. This one has two weights for each
# channel and adds noise while it trains. `Channelwise` is for what looks at one channel
# axis; its methods take and return vectors along it:
#
# - `label_vector`: entry `k` of both weights belongs to what channel `k` is labeled.
#   Where the label is a unit that can be pruned (it is not negative), all that belongs
#   to it is zero once it is pruned, and so is the output.
# - `constant_vector`: what comes out where what comes in is known, NaN where it is not.
# - `rebuild_vector`: the same layer with the entries that are kept.


# %%
@keras.saving.register_keras_serializable("guide")
class NoisyAffine(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.draws = keras.random.SeedGenerator()

    def build(self, input_shape):
        for name in ("scale", "offset"):
            weight = self.add_weight(
                shape=input_shape[-1:], initializer="uniform", name=name
            )
            setattr(self, name, weight)

    def call(self, x, training=False):
        scale = self.scale
        if training:
            scale = scale * keras.random.normal(ops.shape(x), 1.0, 0.1, seed=self.draws)
        return x * scale + self.offset


class AffineRule(pgmpf_tf.rules.Channelwise):
    def axes(self, node):
        last = len(node.inputs[0].shape) - 1
        return last, last

    def width(self, node):
        return node.inputs[0].shape[-1]

    def label_vector(self, node, flow, labels, pruned):
        for name in ("scale", "offset"):
            flow.member(node, getattr(node.operation, name), 0, name, labels)
        return labels, np.where(labels >= 0, 0.0, np.nan)

    def constant_vector(self, node, weights, values):
        layer = node.operation
        scale, offset = weights(layer.scale), weights(layer.offset)
        return np.where(scale == 0, offset, values * scale + offset)

    def rebuild_vector(self, node, weights, kept_in, kept_out, values):
        layer = node.operation
        new = {
            "scale": weights(layer.scale)[kept_in],
            "offset": weights(layer.offset)[kept_in],
        }
        return pgmpf_tf.rules.narrower(node, weights=new)


pgmpf_tf.register_rule(NoisyAffine, AffineRule())
check(network(NoisyAffine(), layers.ReLU()))

# %% [markdown]
# Comparing the masked model with the small one, as `check` does, is the test that every
# rule of pgmpf_tf has; give it to yours. A convolution that divides each kernel by its
# norm, say, does not pass: the norm of the whole kernel counts what reads pruned
# channels, and the norm of what is left does not. A rule that fails on a layer makes it
# a barrier, and a warning says so.
#
# For what looks at several axes or inputs, derive from `pgmpf_tf.rules.Rule` itself.
# The [ideas](../how_it_works.md) come first; the files of `pgmpf_tf/rules` are short
# and read as examples.
