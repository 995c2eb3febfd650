"""Exports a pruned network on a backend that writes no files for deployment itself.

Usage: KERAS_BACKEND=... python -m tests.exporting.elsewhere_program DIRECTORY
Leaves the files, and inputs and outputs of the network in samples.npz.
"""

import pathlib
import sys

import keras
import numpy as np

import pgmpf_tf
from tests.exporting.networks import convnet, images
from tests.exporting.own_layers import Doubling

FORMATS = ("saved_model", "tflite", "keras", "onnx")


def main(directory):
    folder = pathlib.Path(directory)
    body = convnet()
    inner = Doubling(name="doubling")(body.output)
    model = pgmpf_tf.wrap(keras.Model(body.input, inner), 0.5, epochs=3)
    model.apply_masks()
    data = images()
    pgmpf_tf.export(
        model,
        folder,
        FORMATS,
        quantize="int8",
        representative_data=images(48),
        verification_data=data,
    )
    outputs = keras.ops.convert_to_numpy(model(data, training=False))
    np.savez(folder / "samples.npz", inputs=data, outputs=outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
