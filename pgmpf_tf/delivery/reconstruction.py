"""Reconstruction: layers make up for pruned channels, by least squares."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, tree

from pgmpf_tf.channels.graph import Graph, trace
from pgmpf_tf.channels.nodes import Node, fill_in
from pgmpf_tf.channels.stand_ins import STAND_INS

_KINDS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)
_RIDGE = 1e-2
_FEWEST, _MOST = 32, 512
_MOST_ROWS = 10_000
_MOST_BYTES = 2**28
"""Of one activation of all samples."""


def reconstruct(
    dense: keras.Model, pruned: keras.Model, data: Any, seconds: float, seed: int = 0
) -> int:
    """Fits the kernels of a pruned network to what the dense one's layers give.

    Layer after layer, in graph order, since each changes what the next one sees: with
    x what arrives at the layer in the pruned network (a row per position), s what its
    filters sum up to in the dense network, and d = s - x K - b,

        K += D, where D minimizes |d - x D|^2 + ridge * |x|^2 / columns * |D|^2

    and the means of x and d go into the bias if there is one (Y. He et al., "Channel
    Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1, for
    kernels that stay near what they were). Filters and channels that are pruned stay
    zero. Fitted are convolutions without groups and Dense layers that are called once.

    Args:
        dense: the network before.
        pruned: a network of the same layers, with filters that are zero. Its kernels
            and biases are changed.
        data: inputs in the structure that the networks take; up to 512 are used.
        seconds: about how long it may take; at least 32 samples are used.
        seed: of the positions that are used.

    Returns:
        How many layers were fitted; 0 for networks with Keras masks or with layers made
        of layers, whose graphs cannot be run call by call.
    """
    graphs = trace(dense), trace(pruned)
    if not all(map(_can_be_run, graphs[0].nodes)):
        return 0
    flat = tree.flatten(data)
    count = _affordable(graphs[0], flat, seconds)
    runs = [_Run(graph, [array[:count] for array in flat]) for graph in graphs]
    generator = np.random.default_rng(seed)
    fitted = 0
    for before, after in zip(graphs[0].nodes, graphs[1].nodes, strict=True):
        if _can_be_fitted(after):
            inputs = [
                run.value(node.inputs[0])
                for run, node in zip(runs, (before, after), strict=True)
            ]
            _fit((before.operation, after.operation), inputs, generator)
            fitted += 1
        for run, node in zip(runs, (before, after), strict=True):
            run.step(node)
    return fitted


def _can_be_run(node: Node) -> bool:
    return not (isinstance(node.operation, STAND_INS) or node.all_masks)


def _affordable(graph: Graph, flat: list[np.ndarray], seconds: float) -> int:
    """How many samples fit into the time and into memory."""
    model = graph.function
    few = tree.pack_sequence_as(model.input, [array[:16] for array in flat])
    model(few, training=False)
    start = time.monotonic()
    model(few, training=False)
    each = (time.monotonic() - start) / len(flat[0][:16])
    # Two networks; the sums for the fits take as long again.
    in_time = seconds / max(4 * each, 1e-9)
    largest = max(
        4 * np.prod([size or 1 for size in tensor.shape[1:]], dtype=float)
        for node in graph.nodes
        for tensor in node.outputs
    )
    in_memory = _MOST_BYTES / largest
    return int(np.clip(min(in_time, in_memory), _FEWEST, _MOST))


class _Run:
    """A network run call by call; values that nothing needs any more are freed."""

    def __init__(self, graph: Graph, inputs: list[np.ndarray]) -> None:
        self._values: dict[int, Any] = {
            id(tensor): keras.ops.convert_to_tensor(array, tensor.dtype)
            for tensor, array in zip(graph.inputs, inputs, strict=True)
        }
        self._uses = Counter(
            id(tensor) for node in graph.nodes for tensor in node.inputs
        )

    def value(self, tensor: Any) -> Any:
        return self._values[id(tensor)]

    def step(self, node: Node) -> None:
        args, kwargs = fill_in((node.args, node.kwargs), self.value)
        outputs = tree.flatten(node.operation(*args, **kwargs))
        for tensor, value in zip(node.outputs, outputs, strict=True):
            self._values[id(tensor)] = value
        for tensor in node.inputs:
            self._uses[id(tensor)] -= 1
            if not self._uses[id(tensor)]:
                del self._values[id(tensor)]


def _can_be_fitted(node: Node) -> bool:
    layer = node.operation
    return (
        type(layer) in _KINDS
        and not node.shared
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and getattr(layer, "padding", "same") != "causal"
        and keras.backend.standardize_dtype(layer.compute_dtype) == "float32"
    )


@dataclass(frozen=True)
class _Weights:
    """A layer's kernel as a matrix `(columns, filters)`, and its bias."""

    kernel: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> _Weights:
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        bias = np.zeros(kernel.shape[-1], kernel.dtype)
        if layer.use_bias:
            bias = keras.ops.convert_to_numpy(layer.bias)
        return cls(kernel, bias)


def _fit(
    pair: tuple[keras.layers.Layer, keras.layers.Layer],
    inputs: Sequence[Any],
    generator: np.random.Generator,
) -> None:
    """Fits the second layer of a pair to the first; each has its own inputs."""
    after = pair[1]
    old, new = map(_Weights.of, pair)
    limit = min(4 * len(old.kernel) + 1024, _MOST_ROWS)
    state = generator.bit_generator.state
    rows = []
    for layer, x in zip(pair, inputs, strict=True):
        generator.bit_generator.state = state  # the same positions in both
        rows.append(_rows(layer, x, limit, generator))
    alive = new.kernel.any(axis=0)
    columns = rows[1].any(axis=0)
    x = rows[1][:, columns]
    wanted = rows[0] @ old.kernel[:, alive] + old.bias[alive]
    d = wanted - x @ new.kernel[columns][:, alive] - new.bias[alive]
    means = x.mean(axis=0), d.mean(axis=0)
    if after.use_bias:
        x, d = x - means[0], d - means[1]
    gram = (x.T @ x).astype("float64")
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / max(len(gram), 1)
    change = np.linalg.solve(gram, (x.T @ d).astype("float64"))
    kernel, bias = new.kernel.copy(), new.bias.copy()
    kernel[np.ix_(columns, alive)] += change.astype(kernel.dtype)
    after.kernel.assign(kernel.reshape(after.kernel.shape))
    if after.use_bias:
        bias[alive] += means[1] - means[0] @ change
        after.bias.assign(bias)


def _rows(
    layer: keras.layers.Layer, x: Any, limit: int, generator: np.random.Generator
) -> np.ndarray:
    """What arrives at the kernel, `(rows, columns)`, at positions drawn at random."""
    x = keras.ops.convert_to_numpy(x)
    if isinstance(layer, layers.Dense):
        # A convolution of size 1 over all axes but the last.
        x = x.reshape(len(x), -1, x.shape[-1])
        sizes, strides, dilations, padding = (1,), (1,), (1,), "valid"
    else:
        sizes, strides = layer.kernel_size, layer.strides
        dilations, padding = layer.dilation_rate, layer.padding
    spans = [(size - 1) * step for size, step in zip(sizes, dilations, strict=True)]
    if padding == "same":
        pads = [
            max((-(-n // stride) - 1) * stride + span + 1 - n, 0)
            for n, stride, span in zip(x.shape[1:-1], strides, spans, strict=True)
        ]
        x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    places = [
        (n - span - 1) // stride + 1
        for n, stride, span in zip(x.shape[1:-1], strides, spans, strict=True)
    ]
    each, count = -(-limit // len(x)), int(np.prod(places))
    chosen = np.tile(np.arange(count), (len(x), 1))
    if count > each:
        chosen = generator.integers(0, count, (len(x), each))
    starts = [
        index * stride
        for index, stride in zip(np.unravel_index(chosen, places), strides, strict=True)
    ]
    values = []
    for offsets in np.ndindex(*sizes):
        entries = (
            start + offset * step
            for start, offset, step in zip(starts, offsets, dilations, strict=True)
        )
        values.append(x[(np.arange(len(x))[:, None], *entries)])
    return np.stack(values, axis=-2).reshape(chosen.size, -1)
