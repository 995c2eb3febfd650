"""The graph of a Keras model, nested models inlined: what every analysis walks over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from pgmpf_tf.channels.slots import NoRule


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
    memo: dict[str, Any] = field(default_factory=dict)
    inputs: list[Tensor] = field(init=False)

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
    is traced by its `call` on symbolic inputs; where that fails it is one operation.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built.
    """
    function = functional_of(model)
    inputs = [_tensor(x) for x in function.inputs]
    nodes: list[Node] = []
    outputs = _walk(function, inputs, {}, nodes)
    return Graph(function, inputs, outputs, nodes)


def functional_of(model: keras.Model) -> keras.Model:
    """A Functional model that computes what `model` computes, with the same layers.

    That is the model itself where it is Functional or Sequential, and else a shell
    around it.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built, or nobody knows for which input shape.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: model={model!r}")
    inner = _inlinable(model)
    if inner is not None:
        return inner
    shapes = getattr(model, "_build_shapes_dict", None)
    if isinstance(model, keras.Sequential) or not (model.built and shapes):
        raise ValueError(
            "model must be built for a known input shape, so that its layers have "
            "weights. Give it a keras.Input, call model.build(input_shape), or call "
            f"it once on data. Received: model={model.name!r} of type "
            f"{type(model).__name__}, not built."
        )
    inputs = _symbolic_inputs(next(iter(shapes.values())))
    return keras.Model(inputs, model(inputs), name=model.name)


def _trace_subclassed(model: keras.Model, inputs) -> keras.Model:
    """The graph behind a subclassed model's `call`, sharing its layers.

    Raises:
        NoRule: its `call` does more than to call layers and keras.ops.
    """
    symbolic = tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), inputs
    )
    try:
        traced = keras.Model(symbolic, model.call(symbolic))
    except Exception as error:  # anything at all may be in a user's call()
        raise NoRule(
            "its call() cannot be traced on symbolic inputs, use keras layers and "
            f"keras.ops in it: {str(error).splitlines()[0]}"
        ) from error
    known = {id(variable) for variable in traced.variables}
    lost = [v.path for v in model.variables if id(v) not in known]
    if lost:
        raise NoRule(f"its call() uses variables outside of its layers: {lost[:3]}")
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
        memo = {}
        try:
            outputs = _inline(operation, args, kwargs, context, nodes)
        except NoRule as error:
            outputs, memo["reason"] = None, str(error)
        if outputs is None:
            if same_shapes:
                outputs = [_tensor(x) for x in keras_node.outputs]
            else:
                outputs = _respecified(operation, args, kwargs)
            nodes.append(Node(operation, args, kwargs, outputs, memo))
        known |= {
            id(x): tensor for x, tensor in zip(keras_node.outputs, outputs, strict=True)
        }
    return [known[id(x)] for x in function.outputs]


def _inline(operation, args, kwargs, context, nodes) -> list[Tensor] | None:
    """Walk into a nested model; None if it is none, or not plainly called."""
    if not isinstance(operation, keras.Model):
        return None
    inner = _inlinable(operation)
    extra = {k: v for k, v in kwargs.items() if v is not None and k != "inputs"}
    if set(extra) - {"training"} or len(args) + ("inputs" in kwargs) != 1:
        raise NoRule("it is called with several arguments")
    passed = args[0] if args else kwargs["inputs"]
    if inner is None:
        inner = _trace_subclassed(operation, passed)
    flat = tree.flatten(passed)
    if (
        isinstance(passed, dict) != isinstance(inner._inputs_struct, dict)
        or len(flat) != len(inner.inputs)
        or not all(isinstance(x, Tensor) for x in flat)
    ):
        raise NoRule("its inputs are passed in another structure than it was made with")
    if [len(x.shape) for x in flat] != [len(x.shape) for x in inner.inputs]:
        raise NoRule("its inputs have another rank than it was made with")
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
