# %% [markdown]
# # Training
#
# Pruning at once, as on the [page before](choosing.py), costs accuracy. `fit` on a
# wrapped model prunes gradually while the network learns to do without.

# %%
import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf
from pgmpf_tf import PruningConfig, schedules

keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=0.25, random_state=0, stratify=labels
)

dense = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", use_bias=False, name="first"),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.Conv2D(32, 3, padding="same", use_bias=False, name="second"),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, name="classifier"),
    ],
    name="digits",
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
dense.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
dense.fit(x_train, y_train, batch_size=32, epochs=8, verbose=0)
dense.save("dense.keras")
dense.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## What `fit` does
#
# Every few steps, in the first part of the run, the filters are scored anew and the
# lowest are masked; the rest of the run is left to recover. Three numbers say what a
# mask does at that time, and History has them: the part of the filters that is masked,
# what is left of a masked filter's weights, and by how much its gradients are
# suppressed. `fit` may be ended early: the network is as it is then, and the next call
# goes on.


# %%
def fit(model, epochs=6, **options):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=epochs,
        validation_data=(x_test, y_test),
        verbose=0,
        **options,
    )


model = pgmpf_tf.wrap(keras.models.load_model("dense.keras"), rate=0.5, seed=0)
history = fit(model)
for name in ("pruning_rate", "weight_mask", "suppression", "val_accuracy"):
    print(f"{name:>14}", *(f"{value:7.3f}" for value in history.history[name]))

# %% [markdown]
# `history.masks` holds the masks before the first epoch and after each one, by group.
# All callbacks work as ever; `pgmpf_tf.callbacks.PruningLog("logs")` shows in
# TensorBoard how the norms of the filters part and sink.

# %%
print([int(masks["first"].sum()) for masks in history.masks])

# %% [markdown]
# ## Other methods
#
# A method is three schedules, functions of the progress of the run from 0 to 1.
# Published methods are there by name: `"pgmpf_published"` as in its paper, `"hard"`
# prunes once and fine-tunes, `"sfp"` and `"asfp"` let pruned filters learn on from
# zero, `"asrfp"` lets them fade, `"gradual"` removes them for good, step by step. A
# `PruningConfig` is any other: here one in which filters fade over the first 60 % of
# the run, and half of the gradients that masked filters get are dropped.

# %%
fading = PruningConfig(
    rate=schedules.cubic(end=0.6),
    weight_mask=schedules.decay(end=0.6),
    suppression=schedules.cubic(end=0.6),
    dropout=0.5,
)
for name, method in {
    "hard": "hard",
    "asfp": "asfp",
    "a method of one's own": fading,
}.items():
    model = pgmpf_tf.wrap(
        keras.models.load_model("dense.keras"), rate=0.5, method=method, seed=0
    )
    accuracy = fit(model).history["val_accuracy"][-1]
    print(f"{accuracy:.1%}  {name}")

# %% [markdown]
# ## Shrink in the middle
#
# Once pruning is done, what is zero need not be computed any more. `fit_and_shrink` is
# one run of as many epochs, which goes on with the small network from there, with the
# same optimizer. It returns the small network.

# %%
model = pgmpf_tf.wrap(keras.models.load_model("dense.keras"), rate=0.5, seed=0)
model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
small = model.fit_and_shrink(x_train, y_train, batch_size=32, epochs=6, verbose=0)
small.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## A teacher
#
# With the dense network as the teacher, `fit` draws the outputs of the network to its
# outputs while it is pruned. Without labels the teacher is enough: compile without a
# loss, `model.compile("adam")`, and `model.fit(x_train)`.

# %%
model = pgmpf_tf.wrap(
    keras.models.load_model("dense.keras"),
    rate=0.5,
    distillation=pgmpf_tf.Distillation(dense, weight=0.5, temperature=4.0),
    seed=0,
)
history = fit(model)
print(f"distance to the teacher: {history.history['distillation_loss'][-1]:.3f}")

# %% [markdown]
# ## Stop and go on
#
# Masks and schedules are saved with the model: what is loaded goes on as if nothing had
# happened. Say with `epochs=` how long the schedules are if training is spread over
# several calls.

# %%
model = pgmpf_tf.wrap(
    keras.models.load_model("dense.keras"), rate=0.5, epochs=6, seed=0
)
fit(model, epochs=3)
model.save("stopped.keras")

model = keras.models.load_model("stopped.keras")
model.fit(x_train, y_train, batch_size=32, initial_epoch=3, epochs=6, verbose=0)
model.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## A loop of your own
#
# Two calls do what `fit` does: `mask_gradients` in each step, `update_masks` after each
# epoch. Everything else is yours. This loop is for the TensorFlow backend.

# %%
import tensorflow as tf

model = pgmpf_tf.wrap(
    keras.models.load_model("dense.keras"), rate=0.5, epochs=4, seed=0
)
optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
batches = tf.data.Dataset.from_tensor_slices((x_train, y_train)).batch(32)


@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    gradients = model.mask_gradients(gradients, optimizer)
    optimizer.apply(gradients, model.trainable_variables)


model.update_masks(-1, optimizer)
for epoch in range(4):
    for x, y in batches:
        step(x, y)
    print(epoch, model.update_masks(epoch, optimizer))

small = pgmpf_tf.compact(model)
print(np.mean(small.predict(x_test, verbose=0).argmax(axis=1) == y_test))
