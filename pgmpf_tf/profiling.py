"""What a model costs: multiply-accumulates and parameters, per layer and in all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
from keras import layers
from rich.table import Table

from pgmpf_tf.channels.graph import Node, trace


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one layer.

    Attributes:
        name: the layer's name.
        type: its class.
        output_shape: shape of its output, batch first; of its first call if shared.
        macs: multiply-accumulates per sample, summed over its calls.
        params: entries of its weights, trainable or not.
        calls: how often the model calls it.
        convolution: whether it is a convolution of some kind.
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    macs: int
    params: int
    calls: int
    convolution: bool


@dataclass(frozen=True)
class Profile:
    """The cost of a model; see `profile`.

    Attributes:
        name: the model's name.
        layers: one row per layer or operation, in graph order.
        uncounted: names of layers with kernels whose multiply-accumulates are not
            known (recurrent layers, say): `macs` lacks them.
    """

    name: str
    layers: tuple[LayerProfile, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample, each counted once."""
        return sum(row.macs for row in self.layers)

    @property
    def conv_macs(self) -> int:
        """The part of `macs` that convolutions do: the "FLOPs" of pruning papers."""
        return sum(row.macs for row in self.layers if row.convolution)

    @property
    def params(self) -> int:
        """Entries of all weights, trainable or not; shared weights count once."""
        return sum(row.params for row in self.layers)

    def __rich__(self) -> Table:
        """The rows that cost something, and the total, as a table."""
        table = Table(title=self.name, caption=self._caption())
        for heading in ("layer", "type", "output shape"):
            table.add_column(heading, overflow="fold")
        for heading in ("MACs", "parameters"):
            table.add_column(heading, justify="right")
        for row in self.layers:
            if row.macs or row.params:
                shape = " x ".join(str(d) for d in row.output_shape[1:])
                table.add_row(
                    row.name, row.type, shape, f"{row.macs:,}", f"{row.params:,}"
                )
        table.add_section()
        table.add_row("total", "", "", f"{self.macs:,}", f"{self.params:,}")
        return table

    def _caption(self) -> str | None:
        if not self.uncounted:
            return None
        return "MACs without those of: " + ", ".join(self.uncounted)


def profile(model: keras.Model) -> Profile:
    """Counts the multiply-accumulates and the parameters of a model.

    A multiply-accumulate counts once (not as two operations), for one sample.
    Counted are convolutions of every kind, Dense, EinsumDense and
    MultiHeadAttention; biases, normalisation, activations and pooling are not, as in
    the literature of pruning. Nested models are looked into.

    ```python
    cost = pgmpf_tf.profile(model)
    print(cost.macs, cost.params)
    rich.print(cost)
    ```

    Args:
        model: a built model; its inputs have fixed shapes except for the batch.

    Returns:
        The totals, and one row per layer.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: it is not built, or has an axis of unknown size besides the batch.
    """
    seen: set[int] = set()
    rows, uncounted = [], []
    for nodes in trace(model).calls().values():
        operation = nodes[0].operation
        rule = rule_of(operation)
        weights = getattr(operation, "weights", [])
        if rule is None and _has_kernel(operation):
            uncounted.append(operation.name)
        own = [w for w in weights if id(w) not in seen]
        seen |= {id(w) for w in own}
        rows.append(
            LayerProfile(
                name=operation.name,
                type=type(operation).__name__,
                output_shape=tuple(nodes[0].outputs[0].shape),
                macs=sum(rule(operation, node) for node in nodes) if rule else 0,
                params=sum(math.prod(w.shape) for w in own),
                calls=len(nodes),
                convolution=isinstance(operation, _CONVOLUTIONS),
            )
        )
    return Profile(model.name, tuple(rows), tuple(uncounted))


def _sizes(shape: Iterable[int | None], node: Node) -> int:
    """The product of sizes that must be known."""
    shape = tuple(shape)
    if None in shape:
        raise ValueError(
            "model must have fixed shapes, except for the batch, to count its "
            "multiply-accumulates; build it with an Input of fixed shape. Received: "
            f"layer {node.operation.name!r} with output shape {node.outputs[0].shape}"
        )
    return math.prod(shape)


def _spatial(layer: layers.Layer, shape: tuple[int | None, ...]):
    return shape[1:-1] if layer.data_format == "channels_last" else shape[2:]


def _convolution(layer, node) -> int:
    positions = _sizes(_spatial(layer, node.outputs[0].shape), node)
    return positions * math.prod(layer.kernel.shape)


def _transposed(layer, node) -> int:
    positions = _sizes(_spatial(layer, node.inputs[0].shape), node)
    return positions * math.prod(layer.kernel.shape)


def _separable(layer, node) -> int:
    positions = _sizes(_spatial(layer, node.outputs[0].shape), node)
    kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def _dense(layer, node) -> int:
    positions = _sizes(node.outputs[0].shape[1:-1], node)
    return positions * math.prod(layer.kernel.shape)


def _einsum(layer, node) -> int:
    """Each entry of the input meets each kernel entry along the kernel's own axes.

    The output's shape would not do: EinsumDense leaves sizes in it unknown.
    """
    inputs, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
    own = (
        size
        for label, size in zip(kernel, layer.kernel.shape, strict=True)
        if label not in inputs
    )
    return _sizes(node.inputs[0].shape[1:], node) * math.prod(own)


def _attention(layer, node) -> int:
    """Projections of query, key and value, scores, weighted sum, output projection."""
    query, value = node.inputs[0], node.inputs[1]
    key = node.inputs[2] if len(node.inputs) > 2 else value
    targets = _sizes(query.shape[1:-1], node)
    sources = _sizes(value.shape[1:-1], node)
    # Every target looks at the sources along the attention axes only.
    axes = layer.attention_axes
    span = _sizes((value.shape[axis] for axis in axes), node)
    heads, key_dim, value_dim = layer.num_heads, layer.key_dim, layer.value_dim
    gates = 1 if layer.get_config().get("use_gate") else 0
    projections = (
        targets * query.shape[-1] * (key_dim + gates * value_dim)
        + sources * (key.shape[-1] * key_dim + value.shape[-1] * value_dim)
        + targets * value_dim * node.outputs[0].shape[-1]
    )
    return heads * (projections + targets * span * (key_dim + value_dim))


_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DIRECT = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
_CONVOLUTIONS = (*_DIRECT, *_TRANSPOSED, *_SEPARABLE)

_Rule = Callable[[layers.Layer, Node], int]
_RULES: tuple[tuple[type | tuple[type, ...], _Rule], ...] = (
    (_TRANSPOSED, _transposed),
    (_SEPARABLE, _separable),
    (_DIRECT, _convolution),
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum),
    (layers.MultiHeadAttention, _attention),
)


def rule_of(operation: keras.Operation) -> _Rule | None:
    """What counts the multiply-accumulates of one call of an operation, if known."""
    for types, rule in _RULES:
        if isinstance(operation, types):
            return rule
    return None


_NO_KERNEL = (layers.Embedding, layers.PReLU, layers.LayerNormalization)


def _has_kernel(operation: keras.Operation) -> bool:
    """Whether it holds a matrix that its input is multiplied with."""
    if isinstance(operation, _NO_KERNEL):
        return False
    return any(len(weight.shape) >= 2 for weight in getattr(operation, "weights", ()))
