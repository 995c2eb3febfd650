"""Operations that change every value by itself: activations, dropouts, scalings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, NoRule, kept_along
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node, fill_in
from pgmpf_tf.rules.base import Layout, Sizes
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Builder, Cut, NewTensors, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights, evaluate

POINTWISE_ACTIVATIONS = {
    getattr(keras.activations, name)
    for name in [
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "squareplus",
        "tanh",
        "tanh_shrink",
        "threshold",
    ]
}


ELEMENTWISE = frozenset(
    [
        "Abs",
        "Absolute",
        "Arcsin",
        "Arcsinh",
        "Arctan",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Expm1",
        "Floor",
        "Gelu",
        "HardShrink",
        "HardSigmoid",
        "HardSilu",
        "HardTanh",
        "LeakyRelu",
        "Log",
        "Log10",
        "Log1p",
        "Log2",
        "LogSigmoid",
        "Negative",
        "ReLU",
        "Reciprocal",
        "Relu",
        "Relu6",
        "Round",
        "Rsqrt",
        "Selu",
        "Sigmoid",
        "Sign",
        "Silu",
        "Sin",
        "Sinh",
        "SoftShrink",
        "Softplus",
        "Softsign",
        "SparsePlus",
        "SparseSigmoid",
        "Sqrt",
        "Square",
        "Squareplus",
        "Tan",
        "Tanh",
        "TanhShrink",
        "Threshold",
    ]
)
"""Operations, by name, that treat every value by itself."""

_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Power"}


def pointwise(activation: Any) -> Any:
    """The activation, if it treats every value by itself.

    Raises:
        NoRule: it does not, or nobody knows.
    """
    if activation is None:
        return keras.activations.linear
    if activation not in POINTWISE_ACTIVATIONS and not _made_of_such(activation):
        name = getattr(activation, "__name__", repr(activation))
        raise NoRule(f"its activation {name} may look at several channels at once")
    return activation


def own_activation(operation: keras.Operation) -> Callable[[Any], Any] | None:
    """A function that an operation applies to every value, if it is not Keras' own."""
    function = getattr(operation, "activation", None)
    stock = getattr(function, "__module__", "").startswith("keras.src.")
    if function is None or stock or not _made_of_such(function):
        return None
    return function


@functools.lru_cache(maxsize=256)
def _made_of_such(function: Any) -> bool:
    """Whether a function of one's own only calls operations of single values."""
    x = keras.KerasTensor((None, 3))
    try:
        left = [function(x)]
    except Exception:  # anything may be in it, a state or NumPy
        return False
    while left:
        tensor = left.pop()
        if tensor is x:
            continue
        history = getattr(tensor, "_keras_history", None)
        if history is None:
            return False
        operation = history.operation
        call = operation._inbound_nodes[history.node_index]
        others = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
        kind = type(operation)
        if (
            not kind.__module__.startswith(("keras.src.ops.", "keras.src.activations."))
            or kind.__name__ not in ELEMENTWISE | _ARITHMETIC
            or any(
                np.ndim(leaf)
                for leaf in others
                if not isinstance(leaf, keras.KerasTensor)
            )
        ):
            return False
        left += call.input_tensors
    return True


class Elementwise(Entrywise):
    """A deterministic function of one tensor, value by value."""

    def value(self, node: Node, sources: list[Array]) -> Array:
        def function(points: Any) -> Any:
            args, kwargs = fill_in((node.args, node.kwargs), lambda _: points)
            return node.operation.call(*args, **kwargs)

        if len(node.inputs) != 1 or node.masks:
            raise NoRule("it combines several tensors")
        return evaluate(function, sources[0])


class PointwiseActivation(Elementwise):
    """The layer that applies a function by name, to every value by itself."""

    def value(self, node: Node, sources: list[Array]) -> Array:
        return evaluate(pointwise(node.operation.activation), sources[0])

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        return narrower(node, activation=own_activation(node.operation))


class Rescaling(Elementwise):
    """`x * scale + offset` with one scale and one offset for all channels."""

    def value(self, node: Node, sources: list[Array]) -> Array:
        if np.size(node.operation.scale) != 1 or np.size(node.operation.offset) != 1:
            raise NoRule("it scales every channel by its own number")
        return super().value(node, sources)


class Identity(Entrywise):
    """What passes data on unchanged at inference: dropouts, noise, casts."""

    def value(self, node: Node, sources: list[Array]) -> Array:
        if node.kwargs.get("training"):
            raise NoRule("it is called with training=True, so that it is random")
        noise_shape = getattr(node.operation, "noise_shape", None) or ()
        if any(size not in (None, 1) for size in noise_shape):
            raise NoRule("its noise_shape is fixed")
        return sources[0]


class Zeros(Entrywise):
    """`ops.zeros_like`: it looks at a shape, and at no entry."""

    def combine(
        self, node: Node, flow: Flow, labels: list[Array], values: list[Array]
    ) -> Channels:
        return Channels(np.full(labels[0].shape, NO_LABEL), np.zeros(labels[0].shape))

    def value(self, node: Node, sources: list[Array]) -> Array:
        return np.zeros(sources[0].shape)

    @staticmethod
    def _known(node: Node) -> bool:
        """Whether zeros of that shape can be made of nothing."""
        return None not in node.outputs[0].shape[1:] and node.outputs[0].copies == 1

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        if self._known(node):
            return [None]
        return super().needs(node, weights, needed, values)

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        if read[0] is not None:
            return super().layout(node, kept, needed, read)
        assert needed[0] is not None  # a call without any use is not asked
        return [None], [needed[0]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        if cut.inputs[0] is not None:
            return narrower(node)
        out = node.outputs[0]
        chosen = [kept_along(cut.outputs[0], axis) for axis in range(len(out.shape))]
        shape = tuple(
            size if kept.all() else int(kept.sum())
            for size, kept in zip(out.shape, chosen, strict=True)
        )

        def build(builder: Builder, inputs: NewTensors) -> Any:
            dtype = "int32" if out.dtype == "bool" else out.dtype
            x = builder.zeros((1, *shape[1:]) if None in shape else shape, dtype)
            if None in shape:
                samples = builder.zeros((None,) + (1,) * (len(shape) - 1), dtype)
                x = builder.named(keras.ops.subtract(x, samples), node.name)
            if dtype == out.dtype:
                return x
            return builder.named(keras.ops.cast(x, out.dtype), node.name)

        return Rebuilt(build)


class PReLU(Entrywise):
    """`max(0, x) + alpha * min(0, x)` with a learned slope per value or channel."""

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        labels, alpha = inputs[0].labels, node.operation.alpha
        varying = [a for a, size in enumerate(labels.shape) if size > 1]
        if len(varying) == 1 and alpha.shape[varying[0] - 1] > 1:
            axis = varying[0]
            flow.member(node, alpha, axis - 1, "slope", labels.ravel())
        return [Channels(labels, self.value(node, [inputs[0].pruned]))]

    def value(self, node: Node, sources: list[Array]) -> Array:
        return np.where(sources[0] == 0, 0.0, np.nan)

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        alpha = weights(node.operation.alpha)
        for axis in range(alpha.ndim):
            chosen = kept_along(cut.input, axis + 1)
            if alpha.shape[axis] > 1 and not chosen.all():
                alpha = np.compress(chosen, alpha, axis=axis)
        return narrower(node, weights={"alpha": alpha})

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return 0
