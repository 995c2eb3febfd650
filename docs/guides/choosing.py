# %% [markdown]
# # Choosing what to prune
#
# Three questions: how much of each layer goes (`rate`), which filters of a layer go
# (`criterion`), and which filters go only together (`coupling`). Everything here is
# shown on a trained network without further training, so that each choice can be seen
# at once.

# %%
import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf
from pgmpf_tf import Budget, criteria

keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=0.25, random_state=0, stratify=labels
)


def convolution(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


image = keras.Input((8, 8, 1))
x = layers.ReLU()(convolution(image, 32, "stem"))
for block in ("block1", "block2"):
    inner = layers.ReLU()(convolution(x, 32, f"{block}_1"))
    x = layers.ReLU()(layers.Add()([x, convolution(inner, 32, f"{block}_2")]))
x = layers.GlobalAveragePooling2D()(x)
dense = keras.Model(image, layers.Dense(10, name="classifier")(x), name="digits")

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
dense.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
dense.fit(x_train, y_train, batch_size=32, epochs=6, verbose=0)
dense.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## Without training
#
# `apply_masks` prunes at once. BatchNorm's statistics are then those of another
# network: `recalibrate` measures them anew on some images. Each cell below wraps a copy
# of the trained network, since a wrapped model shares its weights with the one it was
# made of.


# %%
def prune(rate, **options):
    model = pgmpf_tf.wrap(keras.models.clone_model(dense), rate, seed=0, **options)
    model.set_weights(dense.get_weights())
    model.apply_masks()
    pgmpf_tf.recalibrate(model, x_train)
    small = pgmpf_tf.compact(model)
    small.compile(loss=loss, metrics=["accuracy"])
    accuracy = small.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
    macs = pgmpf_tf.profile(small).macs / pgmpf_tf.profile(dense).macs
    print(f"accuracy {accuracy:.1%} with {macs:.1%} of the multiply-accumulates")
    return model


model = prune(0.3)

# %% [markdown]
# ## Rates by layer
#
# A mapping from layer-name pattern to rate: the first pattern that matches a layer of a
# group counts, other groups stay whole. `exclude` keeps layers from being pruned at
# all. What is tied to them stays as well: excluding the stem keeps the whole residual
# stream.

# %%
model = prune({"block?_1": 0.6})

# %%
model = prune(0.3, exclude="stem")
model.pruning_summary()

# %% [markdown]
# ## Coupling
#
# Channels that are added together can only be removed together. With
# `coupling="grouped"`, the default, they compete as one. `coupling="independent"` does
# as the paper of PGMPF does: each convolution loses its own filters, the residual
# stream keeps its width, and each sum gets zeros where a branch has nothing to add.

# %%
model = prune(0.3, coupling="independent")
model.pruning_summary()

# %% [markdown]
# ## Budgets
#
# Most often it is not a rate that is given, but what the network may cost. The
# fractions of a `Budget` are what is taken away; given together, all are met. The
# strategy `"uniform"` takes the same part of all groups; with `"global"`, all filters
# of the network compete.

# %%
model = prune(Budget(macs=0.5))

# %%
model = prune(Budget(macs=0.5, params=0.5, strategy="global", min_keep=8))
model.pruning_summary()

# %% [markdown]
# `Budget(latency=0.5)` halves the time that one inference takes, measured with LiteRT
# on this machine; it takes longer, since candidates have to be built and timed. For
# another machine, or to have it once and for all, let the machine measure what each
# part of the network takes at each width:
# `python -m pgmpf_tf measure model.keras --output table.json` (or `pgmpf_tf.measure`);
# `--runtime=onnx` or `saved_model` asks ONNX Runtime or TensorFlow in the place of
# LiteRT, and there are `--threads` and `--precision=int8`. Then
# `Budget(latency=0.5, latency_table="table.json")` predicts the time of a candidate.
# Kernels work on tiles of 16 or 32 channels, so that time is a staircase of the width,
# and filters go where they save time. With a rate instead of a budget,
# `round_to=pgmpf_tf.Rounding(16, "nearest")` gets widths to the edges.
#
# ## Criteria
#
# The filters with the lowest scores go. The default is the norm of their weights,
# `"l2"`; others are `"l1"`, `"geometric_median"`, `"batchnorm_scale"` and `"random"`.
# What belongs to a criterion goes into its object; `Taylor` scores by how much filters
# contribute to the loss on some data, `Activation` by how much they put out on them,
# and `Variance` by how much that varies. These two need no targets, and forward passes
# only.

# %%
contribution = criteria.Taylor((x_train[:512], y_train[:512]), loss)
for name, criterion in {
    "random": "random",
    "L2 norm": "l2",
    "L2 norm, relative to its layer": criteria.L2(combine="mean", normalize=True),
    "contribution to the loss": contribution,
    "activations": criteria.Activation(x_train[:512]),
}.items():
    print(f"{name}: ", end="")
    prune(0.3, criterion=criterion)

# %% [markdown]
# A function of your own gets the filters of a layer as a matrix `(filters, values)` and
# returns a score for each.


# %%
def largest_weight(filters):
    return np.abs(filters).max(axis=1)


model = prune(0.3, criterion=largest_weight)

# %% [markdown]
# ## Sensitivity
#
# How much does each group matter? `sensitivity` prunes one group at a time, at several
# rates, and measures. With `path=` a measurement that was stopped goes on from its
# file; `save_heatmap` draws the table. Without labels, `sensitivity(dense, x_test)`
# measures how far the outputs move.

# %%
table = pgmpf_tf.sensitivity(dense, (x_test, y_test), rates=(0.25, 0.5, 0.75))
print(table)

# %% [markdown]
# A budget with the strategy `"sensitivity"` takes what matters least for what it saves.

# %%
model = prune(Budget(macs=0.5, strategy="sensitivity", sensitivity=table))
model.pruning_summary()
