# %% [markdown]
# # Deployment
#
# From a pruned model to verified files. This page needs
# `pip install "pgmpf_tf[tfmot]" scikit-learn`; without quantization-aware training,
# pgmpf_tf alone is enough.

# %%
import subprocess
import sys

import keras
import numpy as np
import rich
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pgmpf_tf

keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=0.25, random_state=0, stratify=labels
)
dense = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="image"),
        layers.Conv2D(32, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.Conv2D(64, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, name="digit"),
    ],
    name="digits",
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, epochs, rate=0.05):
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
    return model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=epochs,
        validation_data=(x_test, y_test),
        verbose=0,
    )


fit(dense, 6)
dense.save("dense.keras")
model = pgmpf_tf.wrap(dense, rate=0.5, seed=0)
history = fit(model, 6)
small = pgmpf_tf.compact(model)
small.save("small.keras")

# %% [markdown]
# ## Files
#
# `export` writes a SavedModel and a TFLite file. Each is loaded again, compared with
# the model, and timed, before it gets its name; if one deviates, none is left.

# %%
exports = pgmpf_tf.export(small, "artifacts", verification_data=x_test, verbose=False)
rich.print(exports)

# %% [markdown]
# A TFLite file runs with LiteRT:

# %%
interpreter = Interpreter("artifacts/model.tflite")
run = interpreter.get_signature_runner()
logits = run(image=x_test[:1])["digit"]
print("digit", logits.argmax(), "label", y_test[0])

# %% [markdown]
# ## Quantization
#
# `quantize="float16"` halves the weights' bytes, `"dynamic"` stores them in 8 bits, and
# `"int8"` computes in integers throughout: it wants samples, from which it learns the
# ranges of the activations. `integer_io=True` makes inputs and outputs integers as
# well, for devices without floating point.

# %%
for precision in ("float16", "dynamic", "int8"):
    rich.print(
        pgmpf_tf.export(
            small,
            "artifacts",
            "tflite",
            quantize=precision,
            representative_data=x_train,
            verbose=False,
        )
    )

# %% [markdown]
# Where int8 costs too much accuracy, train with quantization in the loop:
# `quantize_aware` gives a model of tensorflow-model-optimization, ready for `compile`
# and `fit`, and `export` takes it.

# %%
quantized = pgmpf_tf.quantize_aware(small)
quantized.compile("sgd", "sparse_categorical_crossentropy")
quantized.fit(x_train, y_train, batch_size=32, epochs=1, verbose=0)
rich.print(
    pgmpf_tf.export(
        quantized,
        "artifacts/aware",
        "tflite",
        quantize="int8",
        verification_data=x_test,
        verbose=False,
    )
)

# %% [markdown]
# ## A report
#
# One page without scripts that needs no network: what was removed where, schedules,
# metrics and masks over the epochs, and the exported files.

# %%
page = pgmpf_tf.report(
    keras.models.load_model("dense.keras"), small, history=history, exports=exports
)
print(page.save("report.html"))

# %% [markdown]
# ## From the command line
#
# With a file and no script. `python -m pgmpf_tf --help` tells the rest.

# %%
np.save("samples.npy", x_train[:256])
command = "-m pgmpf_tf export small.keras deployed --quantize=int8 --data=samples.npy"
done = subprocess.run(
    [sys.executable, *command.split()], check=True, capture_output=True, text=True
)
print(done.stdout)
