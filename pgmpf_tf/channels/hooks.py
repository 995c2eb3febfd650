"""What is another in Keras while a layer is traced, and is put back."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.layers import layer as layer_module
from keras.src.ops import numpy as numpy_module


@contextlib.contextmanager
def recorded_by(
    note: Callable[..., Any], layers: Sequence[keras.layers.Layer]
) -> Iterator[None]:
    """Has something else record calls of layers; what they left behind is removed.

    Args:
        note: is called as Keras' node is.
        layers: those that may be called.
    """
    before = [
        (layer, len(layer._inbound_nodes), len(layer._outbound_nodes))
        for layer in layers
    ]
    numbers = global_state.get_global_attribute("object_name_uids")
    numbers = None if numbers is None else numbers.copy()
    filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    node, layer_module.Node = layer_module.Node, note
    try:
        yield
    finally:
        layer_module.Node = node
        for layer, inbound, outbound in before:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]
        if numbers is not None:
            global_state.set_global_attribute("object_name_uids", numbers)
        if filtering:
            keras.config.enable_traceback_filtering()


@contextlib.contextmanager
def symbolic_calls_by(call: Callable[..., Any]) -> Iterator[None]:
    """Has something else answer for the layers that are called on symbols.

    Args:
        call: gets the layer, and what it is called with.
    """

    def symbolic_call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return call(layer, *args, **kwargs)

    before = keras.layers.Layer.symbolic_call
    keras.layers.Layer.symbolic_call = symbolic_call
    try:
        yield
    finally:
        keras.layers.Layer.symbolic_call = before


@contextlib.contextmanager
def einsum_in_lower_case() -> Iterator[None]:
    """Has `keras.ops.einsum` take capitals on symbols, as it takes them on arrays."""
    kind = numpy_module.Einsum
    numpy_module.Einsum = lambda subscripts: kind(_lowered(subscripts))
    try:
        yield
    finally:
        numpy_module.Einsum = kind


def _lowered(subscripts: str) -> str:
    """An equation without capitals, if there are letters enough."""
    free = iter(sorted({*string.ascii_lowercase} - {*subscripts}))
    capitals = sorted({letter for letter in subscripts if letter.isupper()})
    pairs = dict(zip(capitals, free, strict=False))
    return "".join(pairs.get(letter, letter) for letter in subscripts)
