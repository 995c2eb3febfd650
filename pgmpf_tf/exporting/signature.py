"""The names, shapes and dtypes that an exported model is called with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import tree

from pgmpf_tf._checks import received
from pgmpf_tf.channels.graph import functional_of

Arrays: TypeAlias = Mapping[str, np.ndarray]
"""Arrays by the names of the signature, each with a leading batch axis."""

Runner: TypeAlias = Callable[[Arrays], dict[str, np.ndarray]]
"""From inputs to outputs, both by the names of the signature."""


@dataclass(frozen=True)
class Input:
    """One input of the model.

    Attributes:
        name: its name in the signature: the model's, made an identifier.
        keys: its names in the Keras model, of which users' data may have any: the key
            in a dictionary of inputs, the input layer's name, the tensor's name.
        shape: batch first; None is a size that may vary.
        dtype: name of its dtype.
    """

    name: str
    keys: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """How a model is called: inputs and outputs in order, by name.

    Attributes:
        model: the model: `keras` Functional, or `tf_keras` for quantization-aware
            ones.
        inputs: its inputs.
        outputs: the names of its outputs.
    """

    model: Any
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: Any, batch_size: int | None = None) -> Signature:
        """The signature of a built model, with its batch fixed to `batch_size`.

        Raises:
            TypeError: not a model.
            ValueError: the model is not built, takes strings, or has another fixed
                batch size.
        """
        if not is_legacy(model):
            model = functional_of(model)
        keys = _input_keys(model)
        names = _identifiers(alternatives[0] for alternatives in keys)
        inputs = tuple(
            _input(name, alternatives, tensor, batch_size)
            for name, alternatives, tensor in zip(
                names, keys, model.inputs, strict=True
            )
        )
        return cls(model, inputs, tuple(_identifiers(_output_names(model))))

    @property
    def batch_size(self) -> int | None:
        """The fixed batch size, None if it may vary."""
        return self.inputs[0].shape[0]

    def call(self, tensors: Iterable[Any]) -> dict[str, Any]:
        """Calls the model for inference on its inputs in order."""
        packed = tree.pack_sequence_as(self.model.input, list(tensors))
        outputs = tree.flatten(self.model(packed, training=False))
        return dict(zip(self.outputs, outputs, strict=True))

    def export(self, path: Path, format: str, **options: Any) -> None:
        """Lets Keras write the model in one of its formats.

        What it writes is a model around the model, with exactly these names and shapes.

        Args:
            path: the file or folder.
            format: one of Keras' names.
            **options: of that format.
        """
        tensors = [
            keras.Input(batch_shape=port.shape, dtype=port.dtype, name=port.name)
            for port in self.inputs
        ]
        specs = [
            keras.InputSpec(port.dtype, port.shape, name=port.name)
            for port in self.inputs
        ]
        # Keras keeps the names of outputs if they are a dictionary.
        shell = keras.Model(tensors, self.call(tensors), name=self.model.name)
        shell.export(
            str(path), format, verbose=False, input_signature=[specs], **options
        )

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Calls the model on arrays: the reference every artifact is held against."""
        outputs = self.call(arrays[port.name] for port in self.inputs)
        return {
            name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()
        }


def is_legacy(model: Any) -> bool:
    """Whether it is a model of `tf_keras`, which tfmot works on."""
    return any(c.__module__.split(".")[0] == "tf_keras" for c in type(model).__mro__)


def _input(
    name: str, keys: tuple[str, ...], tensor: Any, batch_size: int | None
) -> Input:
    shape = tuple(tensor.shape)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        raise ValueError(
            "`model` must take numbers. Received: a model with the input "
            f"{keys[0]!r} of dtype {dtype!r}"
        )
    if batch_size is not None and shape[0] not in (None, batch_size):
        raise ValueError(
            f"`batch_size` must be {shape[0]}, as the model's input {keys[0]!r} has "
            f"that fixed. {received('batch_size', batch_size)}"
        )
    batch = shape[0] if batch_size is None else batch_size
    return Input(name, keys, (batch, *shape[1:]), dtype)


def _input_keys(model: Any) -> list[tuple[str, ...]]:
    """For each input the names that it has, the one for the signature first.

    The name of a tensor that its author gave none is a running number of the process,
    and becomes the input layer's when the model is saved: the layer's is the same in a
    model, its file and what `compact` makes of it.
    """
    named: list[list[str]] = [[] for _ in model.inputs]
    if isinstance(model.input, dict) and len(model.input) == len(model.inputs):
        # The order in which `tree.flatten` takes them.
        named = [[key] for key in sorted(model.input)]
    for names, tensor in zip(named, model.inputs, strict=True):
        if not is_legacy(model):
            names.append(tensor._keras_history.operation.name)
        names.append(tensor.name)
    return [tuple(dict.fromkeys(names)) for names in named]


def _output_names(model: Any) -> list[str]:
    """The keys of a dictionary of outputs, else the names of the output layers."""
    if isinstance(model.output, dict) and len(model.output) == len(model.outputs):
        return sorted(model.output)  # as for inputs
    return list(model.output_names)


def _identifiers(names: Iterable[str]) -> list[str]:
    """Unique identifiers, as a TensorFlow signature wants them."""
    found: list[str] = []
    for name in names:
        stem = candidate = re.sub(r"\W|^(?=\d)", "_", name)
        count = 0
        while candidate in found:
            count += 1
            candidate = f"{stem}_{count}"
        found.append(candidate)
    return found
