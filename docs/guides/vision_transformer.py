# %% [markdown]
# # A vision transformer
#
# What can go in a transformer are whole attention heads, the neurons between a block's
# two Dense layers, and channels of the stream that all blocks add to. This page prunes
# all three at once in a small ViT, and then heads alone. It needs
# `pip install pgmpf_tf scikit-learn`.

# %%
import keras
import numpy as np
import rich
from keras import layers, ops
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf

keras.utils.set_random_seed(0)
images, numbers = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, numbers, test_size=0.25, random_state=0, stratify=numbers
)

# %% [markdown]
# ## A ViT in plain Keras
#
# Sixteen patches of 2x2 pixels, two blocks with four heads each. The patches and their
# places in the image are a layer of their own, as in Keras' examples: such a layer is
# opened and pruned like what is around it, and needs no rule.


# %%
class Patches(layers.Layer):
    def __init__(self, count, width, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.project = layers.Dense(width, name="project")
        self.place = layers.Embedding(count, width, name="place")

    def call(self, patches):
        return self.project(patches) + self.place(ops.arange(self.count))


def block(x, width, heads, name):
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    attention = layers.MultiHeadAttention(heads, 16, name=f"{name}_attention")
    x = layers.Add()([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"{name}_grow")(y)
    return layers.Add()([x, layers.Dense(width, name=f"{name}_shrink")(y)])


image = keras.Input((8, 8, 1), name="image")
x = layers.Reshape((4, 2, 4, 2))(image)
x = layers.Reshape((16, 4))(layers.Permute((1, 3, 2, 4))(x))
x = Patches(16, width=64, name="patches")(x)
for number in range(2):
    x = block(x, width=64, heads=4, name=f"block{number}")
x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
dense = keras.Model(image, layers.Dense(10, name="digit")(x), name="vit")

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, epochs):
    steps = epochs * -(-len(x_train) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(0.003, steps)
    model.compile(keras.optimizers.AdamW(schedule), loss, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=64, epochs=epochs, verbose=0)


def accuracy(model):
    model.compile(loss=loss, metrics=["accuracy"])
    return model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]


def copy(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


fit(dense, 8)
print(f"dense: accuracy {accuracy(dense):.1%}")

# %% [markdown]
# ## Half of everything
#
# A rate of 0.5 takes half of the heads of each block, half of its neurons, and half of
# the channels of the stream. The normalization layers of the small network still
# compute the mean and variance of the wide stream, so that it gives what the masked one
# gives.

# %%
model = pgmpf_tf.wrap(copy(dense), 0.5, seed=0)
fit(model, 8)
model.pruning_summary()
small = pgmpf_tf.compact(model)
outputs = [ops.softmax(each.predict(x_test, verbose=0)) for each in (model, small)]
print(f"largest deviation: {np.abs(outputs[0] - outputs[1]).max():.1e}")

# %% [markdown]
# ## Heads alone
#
# A mapping from pattern to rate chooses: here the heads, found by the projection of
# their queries. Everything else stays.

# %%
model = pgmpf_tf.wrap(copy(dense), {"*query": 0.5}, seed=0)
fit(model, 8)
few_heads = pgmpf_tf.compact(model)

# %% [markdown]
# ## What was gained
#
# To be fair, the dense network trains on for as long as the others took to be pruned.
# Each goes to a TFLite file, which is verified and timed.

# %%
trained_on = copy(dense)
fit(trained_on, 8)
table = Table("network", "accuracy", "heads", "MACs", "parameters", "bytes", "latency")
for name, heads, network in (
    ("dense", 4, trained_on),
    ("half of all", 2, small),
    ("half the heads", 2, few_heads),
):
    exports = pgmpf_tf.export(
        network,
        f"artifacts/{name.replace(' ', '_')}",
        "tflite",
        verification_data=x_test,
        verbose=False,
    )
    cost, file = pgmpf_tf.profile(network), exports["tflite"]
    table.add_row(
        name,
        f"{accuracy(network):.1%}",
        str(heads),
        f"{cost.macs:,}",
        f"{cost.params:,}",
        f"{file.bytes:,}",
        f"{file.latency_ms:.3f} ms",
    )
rich.print(table)

# %% [markdown]
# Half of everything leaves about a quarter of the arithmetic: what is between two
# halved widths is a quarter, and only attention's own products, which are a small part
# here, are halved. On 450 images, one accuracy point is four or five of them: a
# difference of less than that says nothing. Time falls less than the arithmetic does:
# [why](../speed.md).
