"""The graph of a Keras model, nested models inlined: what every analysis walks over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree


@dataclass(eq=False)
class Tensor:
    """A symbolic tensor of the graph: shape (batch first), dtype and a name."""

    shape: tuple[int | None, ...]
    dtype: str
    name: str = ""


@dataclass(eq=False)
class Node:
    """One call of one operation.

    Attributes:
        operation: the Keras layer or operation that is called.
        args, kwargs: its call's arguments, with `Tensor`s for symbolic tensors.
        outputs: what the call returns, flat.
        memo: what a rule has computed of this call and may want again.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    inputs: list[Tensor] = field(init=False)
    memo: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        flat = tree.flatten((self.args, self.kwargs))
        self.inputs = [leaf for leaf in flat if isinstance(leaf, Tensor)]


def fill_in(arguments: tuple[tuple, dict], replace) -> tuple[tuple, dict]:
    """A call's arguments, every `Tensor` in them put through `replace` in order."""

    def swap(leaf):
        return replace(leaf) if isinstance(leaf, Tensor) else leaf

    args, kwargs = arguments
    return tree.map_structure(swap, args), tree.map_structure(swap, kwargs)


@dataclass(eq=False)
class Graph:
    """All calls of a model in topological order, nested models inlined.

    Attributes:
        function: the Functional model that was traced.
        inputs, outputs: its tensors, flat.
        nodes: the calls.
    """

    function: keras.Model
    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[Node]

    def calls(self) -> dict[int, list[Node]]:
        """The calls of each operation, by the operation's id."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(id(node.operation), []).append(node)
        return found


class Cast(keras.Operation):
    """The conversion a nested model applies to an input of another dtype."""

    def __init__(self, dtype, name=None):
        super().__init__(name=name)
        self.dtype = dtype


def trace(model: keras.Model) -> Graph:
    """The graph of a built Functional or Sequential model.

    Nested Functional and Sequential models are inlined, once per call, with the
    call's context (`training=False`, say) handed to their layers. A subclassed model
    is traced by calling it on symbolic inputs.

    Raises:
        ValueError: the model is not built, or cannot be traced.
    """
    function = functional_of(model)
    inputs = [_tensor(x) for x in function.inputs]
    nodes: list[Node] = []
    outputs = _walk(function, inputs, {}, nodes)
    return Graph(function, inputs, outputs, nodes)


def functional_of(model: keras.Model) -> keras.Model:
    """The Functional model that computes what `model` computes, sharing its layers.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built or its `call` cannot be traced.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: model={model!r}")
    inner = _inlinable(model)
    if inner is not None:
        return inner
    if isinstance(model, keras.Sequential) or not model.built:
        raise ValueError(
            f"model must be built, so that its layers have weights. Call "
            f"model.build(input_shape), give it an Input, or call it once on data. "
            f"Received: model={model.name!r} ({type(model).__name__}), not built."
        )
    return _trace_subclassed(model)


def _trace_subclassed(model: keras.Model) -> keras.Model:
    """A Functional twin of a subclassed model, by calling it on symbolic inputs."""
    shapes = getattr(model, "_build_shapes_dict", None)
    shape = next(iter(shapes.values()), None) if shapes else None
    if shape is None:
        raise ValueError(
            f"model={model.name!r} ({type(model).__name__}) is subclassed and was "
            "built without an input shape that could be used to trace it. Call "
            "model.build(input_shape), or use a Functional model."
        )
    inputs = _symbolic_inputs(shape)
    try:
        outputs = model.call(inputs)
        traced = keras.Model(inputs, outputs, name=model.name)
    except Exception as error:  # anything at all may be in a user's call()
        raise ValueError(
            f"model={model.name!r} ({type(model).__name__}) is subclassed and its "
            "call() cannot be traced on symbolic inputs, so that its channels cannot "
            "be followed. Use keras layers and keras.ops in it, or build a Functional "
            f"model. The trace failed with: {error}"
        ) from error
    known = {id(variable) for variable in traced.variables}
    lost = [v.path for v in model.variables if id(v) not in known]
    if lost:
        raise ValueError(
            f"model={model.name!r} ({type(model).__name__}) uses variables outside of "
            f"its layers, which a Functional model cannot hold: {lost[:5]}. Move them "
            "into layers."
        )
    return traced


def _symbolic_inputs(shape):
    if isinstance(shape, dict):
        return {
            key: keras.Input(batch_shape=(None, *value[1:]), name=key)
            for key, value in shape.items()
        }
    if shape and isinstance(shape[0], (tuple, list)):
        return [keras.Input(batch_shape=(None, *value[1:])) for value in shape]
    return keras.Input(batch_shape=(None, *shape[1:]))


def _inlinable(operation) -> keras.Model | None:
    """The Functional model behind an operation, if its call is just its graph."""
    functional = keras.src.models.functional.Functional
    if isinstance(operation, keras.Sequential):
        if type(operation).call is not keras.Sequential.call:
            return None
        operation = getattr(operation, "_functional", None)
    if not isinstance(operation, functional):
        return None
    return operation if type(operation).call is functional.call else None


def _tensor(x) -> Tensor:
    return Tensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x.name)


def _keras_nodes(function) -> Iterator:
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield node


def _walk(function, inputs, context, nodes) -> list[Tensor]:
    """Append the calls of `function` to `nodes`; return its output tensors."""
    known = {id(x): tensor for x, tensor in zip(function.inputs, inputs, strict=True)}
    same_shapes = all(
        tuple(x.shape) == tensor.shape
        for x, tensor in zip(function.inputs, inputs, strict=True)
    )
    for keras_node in _keras_nodes(function):
        if any(id(x) not in known for x in keras_node.input_tensors):
            continue
        operation = keras_node.operation
        args, kwargs = keras_node.arguments.convert(
            lambda x, known=known: known.get(id(x), x)
        )
        accepted = getattr(operation, "_call_context_args", {})
        kwargs |= {k: v for k, v in context.items() if k in accepted}
        outputs = _inline(operation, args, kwargs, context, nodes)
        if outputs is None:
            if same_shapes:
                outputs = [_tensor(x) for x in keras_node.outputs]
            else:
                outputs = _respecified(operation, args, kwargs)
            nodes.append(Node(operation, args, kwargs, outputs))
        known |= {
            id(x): tensor for x, tensor in zip(keras_node.outputs, outputs, strict=True)
        }
    return [known[id(x)] for x in function.outputs]


def _inline(operation, args, kwargs, context, nodes) -> list[Tensor] | None:
    """Walk into a nested model; None if it is none, or not plainly called."""
    inner = _inlinable(operation)
    extra = {k: v for k, v in kwargs.items() if v is not None and k != "inputs"}
    if inner is None or set(extra) - {"training"} or len(args) > 1:
        return None
    passed = args[0] if args else kwargs["inputs"]
    if isinstance(passed, dict) != isinstance(inner._inputs_struct, dict):
        return None
    flat = tree.flatten(passed)
    if len(flat) != len(inner.inputs) or not all(isinstance(x, Tensor) for x in flat):
        return None
    if any(
        len(x.shape) != len(ref.shape)
        for x, ref in zip(flat, inner.inputs, strict=True)
    ):
        return None
    converted = []
    for x, ref in zip(flat, inner.inputs, strict=True):
        dtype = keras.backend.standardize_dtype(ref.dtype)
        if x.dtype != dtype:
            cast = Tensor(x.shape, dtype, x.name)
            nodes.append(Node(Cast(dtype), (x,), {}, [cast]))
            x = cast
        converted.append(x)
    return _walk(inner, converted, context | extra, nodes)


def _respecified(operation, args, kwargs) -> list[Tensor]:
    """Output tensors for the shapes of this very call of a nested model."""

    def spec(leaf):
        if isinstance(leaf, Tensor):
            return keras.KerasTensor(leaf.shape, leaf.dtype)
        return leaf

    specs = operation.compute_output_spec(
        *tree.map_structure(spec, args), **tree.map_structure(spec, kwargs)
    )
    return [_tensor(x) for x in tree.flatten(specs)]
