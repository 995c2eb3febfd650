"""Arrays in and out of a LiteRT interpreter, as integers where the file has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgmpf_tf.exporting.formats.saved_model import ENDPOINT
from pgmpf_tf.exporting.signature import Arrays


def place(interpreter: Any, arrays: Arrays) -> None:
    """Makes an interpreter ready for the shapes of the arrays, and sets them."""
    # While a signature runner is held, the interpreter refuses to work by itself.
    details = interpreter.get_signature_runner(ENDPOINT).get_input_details()
    for name, detail in details.items():
        if arrays[name].shape != tuple(detail["shape"]):
            interpreter.resize_tensor_input(detail["index"], arrays[name].shape)
    interpreter.allocate_tensors()
    for name, detail in details.items():
        interpreter.set_tensor(detail["index"], quantize(arrays[name], detail))


def quantize(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """An array as the tensor that `detail` tells of holds it."""
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if not scale or dtype == array.dtype:
        return array
    bounds = np.iinfo(dtype)
    levels = np.round(array / scale) + zero_point
    return np.clip(levels, bounds.min, bounds.max).astype(dtype)


def dequantize(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """What the integers of a tensor mean."""
    scale, zero_point = detail["quantization"]
    if not scale:
        return array
    return (array.astype("float32") - zero_point) * np.float32(scale)
