# %% [markdown]
# # First steps
#
# You have a trained Keras model and want a smaller one that is about as good. This page
# does that from end to end, on the handwritten digits that come with scikit-learn. It
# is a program: download it as a notebook, or run it as a script. It needs
# `pip install pgmpf_tf scikit-learn`.

# %%
import keras
import numpy as np
import rich
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf

keras.utils.set_random_seed(0)

# %% [markdown]
# ## A trained network
#
# 1,797 images of 8x8 pixels, three quarters of them to train on. The network is a small
# residual one; yours may be any Functional, Sequential or subclassed model.

# %%
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

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compile_and_fit(model, epochs, learning_rate):
    steps = epochs * -(-len(x_train) // 32)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model.fit(x_train, y_train, batch_size=32, epochs=epochs, verbose=0)


compile_and_fit(dense, epochs=6, learning_rate=0.1)
dense.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## Prune it while it goes on training
#
# `wrap` makes a model of the same layers and weights. `rate` is the fraction of filters
# to remove from every layer. Compile it and call `fit` as ever.

# %%
model = pgmpf_tf.wrap(dense, rate=0.5, seed=0)
history = compile_and_fit(model, epochs=8, learning_rate=0.05)
model.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# In the end half of the filters are exactly zero. `pruning_summary` shows which ones
# live and die together: the three convolutions whose outputs are added lose the same
# channels. The classifier's outputs stay, since they are the model's outputs.

# %%
model.pruning_summary()

# %% [markdown]
# ## Take away what is zero
#
# `compact` removes the dead filters. What is left is a plain `keras.Model` of stock
# layers: it needs nothing of pgmpf_tf, and computes the same.

# %%
small = pgmpf_tf.compact(model)
print(type(small))
print(pgmpf_tf.compare(dense, small))

# %%
masked_logits = model.predict(x_test, verbose=0)
small_logits = small.predict(x_test, verbose=0)
print(f"largest difference: {np.abs(masked_logits - small_logits).max():.1e}")
np.testing.assert_allclose(masked_logits, small_logits, atol=1e-4)

# %% [markdown]
# ## Use it
#
# Save it, load it anywhere Keras is, train it further, or write files to deploy.
# Every file is loaded again and compared with the model before it gets its name.

# %%
small.save("small.keras")
loaded = keras.models.load_model("small.keras")
loaded.compile(loss=loss, metrics=["accuracy"])
loaded.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %%
rich.print(pgmpf_tf.export(small, "artifacts", verbose=False))

# %% [markdown]
# ## Where to go from here
#
# - [Choosing what to prune](choosing.py): rates by layer, budgets of MACs or latency,
#   criteria, sensitivity.
# - [Training](training.py): what happens in `fit`, other methods, a teacher, a loop of
#   your own.
# - [Deployment](deployment.py): formats, quantization, a report, the command line.
# - [Layers of your own](layers.py).
# - [How it works](../how_it_works.md), in ten minutes.
