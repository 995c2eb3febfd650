"""The Python of README, word for word, on scikit-learn's handwritten digits.

Usage: KERAS_BACKEND=... python -m tests.readme_program
Writes artifacts/ where it is run, and prints the small network's accuracy on the fifth
of the digits that were not trained on.
"""

import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

README = Path(__file__).parents[1] / "README.md"


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main():
    digits = load_digits()
    images = digits.images[..., None].astype("float32") / 16
    held_out = np.arange(len(images)) % 5 == 4
    train, val = (
        tf.data.Dataset.from_tensor_slices((images[part], digits.target[part]))
        .shuffle(2000, seed=0)
        .batch(64)
        for part in (~held_out, held_out)
    )
    names = {"keras_model": network(), "train": train, "val": val}
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```$", README.read_text("utf-8"))
    exec(compile(code, "README.md", "exec"), names)
    small = names["small"]
    assert small.layers[1].filters == 16
    outputs = small.predict(images[held_out], verbose=0)
    accuracy = np.mean(np.argmax(outputs, -1) == digits.target[held_out])
    print(f"accuracy {accuracy:.4f} on {keras.backend.backend()}")


if __name__ == "__main__":
    main()
