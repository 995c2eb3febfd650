# %% [markdown]
# # Layers of your own
#
# pgmpf_tf follows channels through a network by a rule for each kind of layer. A layer
# without a rule is a *barrier*: its inputs keep all their channels, so that the result
# is always right, only larger than it could be. This page gives such layers a rule.

# %%
import keras
import numpy as np
from keras import layers, ops

import pgmpf_tf

keras.utils.set_random_seed(0)


# %% [markdown]
# ## A layer without weights
#
# This activation is not known, and so the convolution before it stays whole;
# `pruning_summary` says why.


# %%
class Bump(keras.layers.Layer):
    def call(self, x):
        return x * ops.exp(-ops.square(x))


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


pgmpf_tf.wrap(network(Bump()), rate=0.5).pruning_summary()

# %% [markdown]
# It treats every element alike, so channels pass through it: `Elementwise`. What it
# makes of a zero is asked of the layer itself.

# %%
pgmpf_tf.register_rule(Bump, pgmpf_tf.rules.Elementwise())


def check(dense):
    """Prunes half, and compares the small model with the masked one."""
    model = pgmpf_tf.wrap(dense, rate=0.5, seed=0)
    model.apply_masks()
    small = pgmpf_tf.compact(model)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(model(images), small(images), atol=1e-5)
    print(pgmpf_tf.compare(dense, small))


check(network(Bump()))

# %% [markdown]
# ## A layer with a weight for each channel
#
# `PerChannel("scale")`: each entry of `scale` belongs to one channel. It lives and dies
# with the channel, and a narrower layer is built with the entries that are left.


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
# Comparing the masked model with the small one, as `check` does, is the test that every
# rule of pgmpf_tf has; give it to yours. A convolution that divides each kernel by its
# norm, say, does not pass: the norm of the whole kernel counts what reads pruned
# channels, and the norm of what is left does not.
#
# A layer unlike all of these wants a rule class of its own: a subclass of
# `pgmpf_tf.rules.Rule` that says how labels flow through the layer, what is constant,
# what is needed, and how it is rebuilt. The [ideas](../how_it_works.md) come first;
# the files of `pgmpf_tf/rules` are short and read as examples.
