"""Operations that TFLite has no form of, made of those that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keras import ops

from pgmpf_tf.channels.elimination import unchanged
from pgmpf_tf.channels.graph import trace
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.compaction import rebuild
from pgmpf_tf.exporting.signature import Signature, is_legacy
from pgmpf_tf.rules import Builder, Rebuilt, narrower
from pgmpf_tf.rules.rebuilding import NewTensors


def in_other_operations(signature: Signature) -> Signature | None:
    """The same function, value for value, without operations that TFLite lacks.

    Args:
        signature: a model that TFLite cannot hold as it is.

    Returns:
        The signature of a model in which nested models and layers made of layers are
        inlined; None if it has no such operation, or none of which a form is known.
    """
    if is_legacy(signature.model):
        return None
    graph = trace(signature.model)
    forms = [_FORMS.get(type(node.operation).__name__) for node in graph.nodes]
    if not any(forms):
        return None
    steps = [unchanged(node) for node in graph.nodes]
    for step, form in zip(steps, forms, strict=True):
        if form is not None:
            step.rebuilt = form(step.node)
    return replace(signature, model=rebuild(graph, steps))


def _rolled(node: Node) -> Rebuilt:
    """A roll as two slices side by side, along one axis after the other."""
    operation = node.operation
    if operation.axis is None:
        return narrower(node)
    axes, shifts = (
        tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for value in (operation.axis, operation.shift)
    )
    shape = node.inputs[0].shape
    sizes = [shape[axis] for axis in axes]
    if None in sizes or len(axes) != len(shifts):
        return narrower(node)

    def build(builder: Builder, inputs: NewTensors) -> Any:
        x: Any = inputs[0]
        for axis, shift, size in zip(axes, shifts, sizes, strict=True):
            start = -shift % size
            if start:
                before = [slice(None)] * (axis % len(shape))
                parts = [
                    builder.named(x[(*before, piece)], f"{node.name}_part")
                    for piece in (slice(start, None), slice(0, start))
                ]
                x = builder.named(ops.concatenate(parts, axis), node.name)
        return x

    return Rebuilt(build)


_FORMS: dict[str, Callable[[Node], Rebuilt]] = {"Roll": _rolled}
"""By the name of the operation, what takes its place."""
