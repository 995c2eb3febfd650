# %% [markdown]
# # After transfer learning
#
# The usual way to a classifier of your own: a base that was trained on much data, and a
# new head, trained first on the frozen base and then together with it. Pruning belongs
# into the last step, in which all layers learn. The page needs
# `pip install pgmpf_tf scikit-learn`.

# %%
import keras
import numpy as np
import rich
from keras import layers
from sklearn.datasets import load_digits

import pgmpf_tf

keras.utils.set_random_seed(0)
images, numbers = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) * 16).astype("float32")

# %% [markdown]
# ## A base
#
# Yours is `keras.applications.MobileNetV2(include_top=False, pooling="avg")`, which
# downloads its weights. So that this page runs anywhere, the base here is a small one
# of the same kind, inverted residual blocks around depthwise convolutions, and it was
# trained on the digits from 0 to 4.


# %%
def inverted_residual(x, name):
    y = layers.Conv2D(64, 1, use_bias=False, name=f"{name}_expand")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depth")(
        y
    )
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.Conv2D(16, 1, use_bias=False, name=f"{name}_project")(y)
    return layers.Add()([x, layers.BatchNormalization(momentum=0.9)(y)])


pixels = keras.Input((8, 8, 1))
x = layers.Conv2D(16, 3, padding="same", name="stem")(layers.Rescaling(1 / 255)(pixels))
for number in range(3):
    x = inverted_residual(x, f"block{number}")
base = keras.Model(pixels, layers.GlobalAveragePooling2D()(x), name="base")

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
teacher = keras.Sequential([base, layers.Dense(5)])
teacher.compile(keras.optimizers.Adam(0.005), loss)
old = numbers < 5
teacher.fit(images[old], numbers[old], batch_size=32, epochs=6, verbose=0)

# %% [markdown]
# ## A head on the frozen base
#
# The task: digits from 5 to 9. As long as it is frozen, BatchNormalization keeps its
# statistics, too.

# %%
x_all, y_all = images[~old], numbers[~old] - 5
order = np.random.default_rng(0).permutation(len(x_all))
train, val, test = ((x_all[rows], y_all[rows]) for rows in np.split(order, [500, 650]))
base.trainable = False
image = keras.Input((8, 8, 1), name="image")
scores = layers.Dense(5, name="digit")(base(image))
model = keras.Model(image, scores, name="classifier")


def fit(model, learning_rate, epochs):
    stop = keras.callbacks.EarlyStopping(
        "val_accuracy", patience=4, restore_best_weights=True
    )
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model.fit(
        *train,
        batch_size=32,
        epochs=epochs,
        validation_data=val,
        callbacks=[stop],
        verbose=0,
    )


def accuracy(model):
    return model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]


fit(model, 0.01, 10)
print(f"head alone: accuracy {accuracy(model):.1%}")

# %% [markdown]
# ## All layers, while filters go
#
# The base is unfrozen before `wrap`: frozen layers keep their filters. EarlyStopping
# waits until pruning is complete, so that it never restores a network that is half
# pruned.

# %%
base.trainable = True
dense = keras.models.clone_model(model)
dense.set_weights(model.get_weights())
fit(dense, 0.001, 12)

pruned = pgmpf_tf.wrap(model, pgmpf_tf.Budget(macs=0.5), seed=0)
history = fit(pruned, 0.001, 20)
small = pgmpf_tf.compact(pruned)
small.compile(loss=loss, metrics=["accuracy"])

# %% [markdown]
# ## What was gained

# %%
rich.print(pgmpf_tf.compare(dense, small, test[0]))
print(f"accuracy: dense {accuracy(dense):.1%}, small {accuracy(small):.1%}")
