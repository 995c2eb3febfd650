# %% [markdown]
# # Prune, then quantize
#
# Both save, and what they save multiplies: fewer filters, and each weight in a byte.
# This page prunes a classifier, quantizes it without further training, and finds out
# which layers pay for it. It needs `pip install pgmpf_tf scikit-learn`.

# %%
import keras
import rich
from keras import layers
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf

keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=0.25, random_state=0, stratify=labels
)


def convolution(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


image = keras.Input((8, 8, 1), name="image")
x = layers.ReLU()(convolution(image, 32, "stem"))
for block in ("block1", "block2"):
    inner = layers.ReLU()(convolution(x, 32, f"{block}_1"))
    x = layers.ReLU()(layers.Add()([x, convolution(inner, 32, f"{block}_2")]))
x = layers.GlobalAveragePooling2D()(x)
dense = keras.Model(image, layers.Dense(10, name="digit")(x), name="digits")
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, epochs):
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    model.fit(x_train, y_train, batch_size=32, epochs=epochs, verbose=0)


fit(dense, 5)
trained = keras.models.clone_model(dense)
trained.set_weights(dense.get_weights())
model = pgmpf_tf.wrap(dense, 0.5, seed=0)
fit(model, 8)
small = pgmpf_tf.compact(model)

# %% [markdown]
# ## Without further training
#
# `"int8"` needs samples that set the ranges of the activations, without labels. Every
# third of them is kept aside, and the file is held against the model on those.
# BatchNormalization layers are folded into their neighbors first, since eight bits are
# spent better on kernels that include them.

# %%
table = Table("network", "precision", "bytes", "latency", "same class as float32")
reports = {}
for name, network in {"dense": trained, "small": small}.items():
    for precision in (None, "float16", "dynamic", "int8", "int16x8"):
        exports = pgmpf_tf.export(
            network,
            f"artifacts/{name}",
            "tflite",
            quantize=precision,
            representative_data=x_train,
            verbose=False,
        )
        file = exports["tflite"]
        reports[name, file.precision] = exports
        table.add_row(
            name,
            file.precision,
            f"{file.bytes:,}",
            f"{file.latency_ms:.4f} ms",
            f"{file.top1_agreement:.1%}",
        )
rich.print(table)

# %% [markdown]
# ## Which layer loses most
#
# Below each file of integers stand the operations that add most to its error; `layers`
# has all of them. `relative_error` is the error of an operation's output, `added` the
# part of it that its inputs did not have.

# %%
rich.print(reports["small", "int8"])
losses = Table("operation", "layer", "error", "added")
for each in reports["small", "int8"]["tflite"].layers:
    losses.add_row(
        each.operation, each.name, f"{each.relative_error:.4f}", f"{each.added:.4f}"
    )
rich.print(losses)

# %% [markdown]
# If one layer stands out, give it more than the others: leave it out of pruning
# (`exclude`), train with quantization in the loop ([deployment](deployment.py)), or
# take `"int16x8"`, which is nearly exact, where the processor is fast at it.
