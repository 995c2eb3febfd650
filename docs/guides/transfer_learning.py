# %% [markdown]
# # After transfer learning
#
# The usual way to a classifier of your own: a base that was trained on much data, and a
# new head, trained first on the frozen base and then together with it. Pruning belongs
# into the last step, in which all layers learn. The page needs
# `pip install pgmpf_tf scikit-learn pillow`.

# %%
from pathlib import Path

import keras
import numpy as np
import rich
from keras import layers
from sklearn.datasets import load_digits

import pgmpf_tf

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Folders of images
#
# You have yours; this page writes handwritten digits into some, a folder to each class:
# those from 0 to 4 stand for the much data of the base, those from 5 to 9 are the task.

# %%
digits, numbers = load_digits(return_X_y=True)
digits = digits.reshape(-1, 8, 8, 1) * 15.9
parts = np.random.default_rng(0).choice(
    ["train", "validation", "test"], len(digits), p=[0.6, 0.15, 0.25]
)
for place, number in enumerate(numbers):
    part = "known" if number < 5 else parts[place]
    folder = Path(part) / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(folder / f"{place:04}.png", digits[place], scale=False)


def read(folder):
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(32, 32), seed=0, verbose=False
    )


known, train, validation = read("known"), read("train"), read("validation")
test = read("test")

# %% [markdown]
# ## A base
#
# MobileNetV2, up to its fifth block, which is enough for such small images. Yours has
# downloaded weights, and as many blocks as you like. So that this page runs anywhere,
# it trains the base itself, and has BatchNormalization forget faster than Keras' does,
# which is made for many more steps.

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
whole = keras.applications.MobileNetV2(
    (32, 32, 3), alpha=0.35, include_top=False, weights=None
)
for layer in whole.layers:
    if isinstance(layer, layers.BatchNormalization):
        layer.momentum = 0.9
features = layers.GlobalAveragePooling2D()(whole.get_layer("block_5_add").output)
base = keras.Model(whole.input, features, name="base")
scale = layers.Rescaling(1 / 127.5, -1)
teacher = keras.Sequential([scale, base, layers.Dense(5)])
teacher.compile(keras.optimizers.Adam(0.003), loss)
teacher.fit(known, epochs=8, verbose=0)

# %% [markdown]
# ## A head on the frozen base
#
# As long as it is frozen, BatchNormalization keeps its statistics, too.

# %%
base.trainable = False
image = keras.Input((32, 32, 3), name="image")
model = keras.Model(image, layers.Dense(5, name="digit")(base(scale(image))))


def fit(model, learning_rate, epochs):
    stop = keras.callbacks.EarlyStopping(
        "val_accuracy", patience=5, restore_best_weights=True
    )
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model.fit(
        train, epochs=epochs, validation_data=validation, callbacks=[stop], verbose=0
    )


def accuracy(model):
    return model.evaluate(test, verbose=0, return_dict=True)["accuracy"]


fit(model, 0.01, 10)
print(f"head alone: accuracy {accuracy(model):.1%}")

# %% [markdown]
# ## All layers, while filters go
#
# The base is unfrozen before `wrap`: frozen layers keep their filters. EarlyStopping
# waits until pruning is complete, so that it never restores a network that is half
# pruned. What would have come out without pruning is trained beside it.

# %%
base.trainable = True
dense = keras.models.clone_model(model)
dense.set_weights(model.get_weights())
fit(dense, 0.001, 10)

pruned = pgmpf_tf.wrap(model, pgmpf_tf.Budget(macs=0.5), seed=0)
history = fit(pruned, 0.001, 15)
small = pgmpf_tf.compact(pruned)
small.compile(loss=loss, metrics=["accuracy"])

# %% [markdown]
# ## What was gained

# %%
samples = np.concatenate([images for images, _ in test])
rich.print(pgmpf_tf.compare(dense, small, samples))
print(f"accuracy: dense {accuracy(dense):.1%}, small {accuracy(small):.1%}")
