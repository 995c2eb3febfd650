"""Loads artifacts again, with the software that will run them, and times them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from pgmpf_tf.exporting.formats import SIGNATURE
from pgmpf_tf.exporting.interface import Arrays, Interface, Runner


def load_keras(path: Path) -> Runner:
    """Loads a `.keras` file."""
    # The file was written a moment ago by this process: its Lambdas are trusted.
    return Interface.of(keras.models.load_model(path, safe_mode=False)).run


def load_saved_model(path: Path) -> Runner:
    """Loads a SavedModel with TensorFlow."""
    loaded = tf.saved_model.load(str(path))

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        # Not the signature alone: `loaded` owns the variables.
        signature = loaded.signatures[SIGNATURE]
        outputs = signature(**{k: tf.constant(v) for k, v in arrays.items()})
        return {name: output.numpy() for name, output in outputs.items()}

    return run


def load_tflite(path: Path, threads: int = 1) -> Runner:
    """Loads a `.tflite` file with LiteRT; integer inputs and outputs are converted."""
    runner = Interpreter(str(path), num_threads=threads).get_signature_runner(SIGNATURE)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        results = runner(**{k: _quantize(v, inputs[k]) for k, v in arrays.items()})
        return {k: _dequantize(v, outputs[k]) for k, v in results.items()}

    return run


def tflite_invoke(path: Path, samples: Arrays, threads: int = 1) -> Callable[[], None]:
    """One inference of a `.tflite` file, its inputs in place: what is to be timed."""
    interpreter = Interpreter(str(path), num_threads=threads)
    # While a signature runner is held, the interpreter refuses to work by itself.
    details = interpreter.get_signature_runner(SIGNATURE).get_input_details()
    for name, detail in details.items():
        if samples[name].shape != tuple(detail["shape"]):
            interpreter.resize_tensor_input(detail["index"], samples[name].shape)
    interpreter.allocate_tensors()
    for name, detail in details.items():
        interpreter.set_tensor(detail["index"], _quantize(samples[name], detail))
    return interpreter.invoke


def median_milliseconds(call: Callable[[], object], seconds: float = 0.5) -> float:
    """The median wall time of a call, over about `seconds` and at least 10 calls."""
    for _ in range(3):
        call()
    times: list[float] = []
    while len(times) < 10 or (sum(times) < seconds and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _quantize(array: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if not scale or dtype == array.dtype:
        return array
    bounds = np.iinfo(dtype)
    levels = np.round(array / scale) + zero_point
    return np.clip(levels, bounds.min, bounds.max).astype(dtype)


def _dequantize(array: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return array
    return (array.astype("float32") - zero_point) * np.float32(scale)
