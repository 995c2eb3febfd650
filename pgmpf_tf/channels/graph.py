"""The graph of a Keras model, nested models inlined: what every analysis walks over."""

from __future__ import annotations

import collections
import dataclasses
import inspect
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree
from keras.src.ops.core import Cast

from pgmpf_tf._checks import received
from pgmpf_tf.channels.arrays import NoRule
from pgmpf_tf.channels.masks import carry_masks, with_masks
from pgmpf_tf.channels.nodes import Arguments, Node, Tensor, takes_context
from pgmpf_tf.channels.opening import Nodes, open_call
from pgmpf_tf.channels.tracing import may_be_opened


@dataclass(eq=False)
class Graph:
    """All calls of a model in topological order, nested models inlined.

    Attributes:
        function: the Functional model that was traced.
        inputs, outputs: its tensors, flat.
        nodes: the calls.
        output_names: what the model calls its outputs; None if it has no names.
    """

    function: keras.Model
    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[Node]
    output_names: list[str | None]

    @property
    def output_masks(self) -> list[Tensor]:
        """The masks that the outputs carry."""
        return [tensor.mask for tensor in self.outputs if tensor.mask is not None]

    def opened_outside(self, whole: Collection[int]) -> set[int]:
        """The opened layers with weights that are in none of some layers, by `id`."""
        return {
            id(layer)
            for node in self.nodes
            for layer in itertools.takewhile(
                lambda layer: id(layer) not in whole, node.within
            )
            if layer.weights
        }

    def calls(self) -> dict[int, list[Node]]:
        """The calls of each operation, by the operation's id."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(id(node.operation), []).append(node)
        return found


def trace(model: keras.Model, whole: Collection[int] = ()) -> Graph:
    """The graph of a built Functional or Sequential model.

    Nested Functional and Sequential models are inlined, once per call, with the
    call's context (`training=False`, say) handed to their layers. A layer or model
    without a rule is opened: traced by its `call` on symbolic inputs. Where that fails
    it is one operation.

    Args:
        model: the model.
        whole: layers that are not to be opened, by `id`.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built.
    """
    function = functional_of(model)
    inputs = [_tensor(x) for x in function.inputs]
    nodes = Nodes(whole)
    outputs = _walk(function, inputs, {}, nodes, "")
    names = getattr(_functional(model), "output_names", None)
    if names is None or len(names) != len(outputs):
        names = [None] * len(outputs)
    graph = _without_unused_masks(Graph(function, inputs, outputs, nodes, names))
    for calls in graph.calls().values():
        for node in calls:
            node.shared = len(calls) > 1
    _name(graph)
    return graph


def _name(graph: Graph) -> None:
    """Gives operations of equal names names that tell them apart."""
    calls = list(graph.calls().values())
    count = collections.Counter(nodes[0].operation.name for nodes in calls)
    taken = {name for name, number in count.items() if number == 1}
    for nodes in calls:
        name = nodes[0].operation.name
        if count[name] > 1:
            name = base = nodes[0].path.replace("/", "_")
            number = 0
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            taken.add(name)
        for node in nodes:
            node.name = name


def _without_unused_masks(graph: Graph) -> Graph:
    """Drops the calls that compute masks that nothing uses."""
    used = {id(tensor) for tensor in graph.outputs + graph.output_masks}
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if node.is_mask and not any(id(t) in used for t in node.outputs):
            continue
        used |= {id(tensor) for tensor in node.inputs + node.all_masks}
        nodes.append(node)
    return dataclasses.replace(graph, nodes=nodes[::-1])


def functional_of(model: keras.Model, name: str = "model") -> keras.Model:
    """A Functional model that computes what `model` computes, with the same layers.

    That is the model itself where it is Functional or Sequential, and else a shell
    around it.

    Args:
        model: a built Keras model.
        name: the caller's argument, for messages.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built, or nobody knows for which input shape.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`{name}` must be a keras.Model. {received(name, model)}")
    inner = _inlinable(model)
    if inner is not None:
        return inner
    structure = getattr(_functional(model), "_inputs_struct", None)
    if structure is not None:  # Functional or Sequential, with a call of its own
        inputs = tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name),
            structure,
        )
        return keras.Model(inputs, model(inputs), name=model.name)
    shapes = () if isinstance(model, keras.Sequential) else _built_for(model)
    if not (model.built and shapes):
        state = "built for shapes that it does not tell" if model.built else "not built"
        raise ValueError(
            f"`{name}` must be built for a known input shape, so that its layers have "
            "weights. Give it a keras.Input, call model.build(input_shape), or call "
            f"it once on data. {received(name, model.name)} of type "
            f"{type(model).__name__}, {state}."
        )
    inputs = _symbolic_inputs(shapes[0])
    return keras.Model(inputs, model(inputs), name=model.name)


def _built_for(model: keras.Model) -> Sequence[Any]:
    """The shapes that `build` has got; those it has by default if it got none."""
    given = getattr(model, "_build_shapes_dict", None)
    if given:
        return [*given.values()]
    parameters = inspect.signature(model.build).parameters.values()
    defaults = [parameter.default for parameter in parameters]
    return [shape for shape in defaults if isinstance(shape, (tuple, list, dict))]


def _symbolic_inputs(shape: Any) -> Any:
    """Inputs for the shapes that a model was built for, in their structure."""
    if isinstance(shape, dict):
        return {
            key: keras.Input(batch_shape=(None, *value[1:]), name=key)
            for key, value in shape.items()
        }
    if shape and isinstance(shape[0], (tuple, list)):
        return [keras.Input(batch_shape=(None, *value[1:])) for value in shape]
    return keras.Input(batch_shape=(None, *shape[1:]))


def _inlinable(operation: keras.Operation) -> keras.Model | None:
    """The Functional model behind an operation, if its call is just its graph."""
    functional = keras.src.models.functional.Functional
    expected = functional.call
    if isinstance(operation, keras.Sequential):
        expected = keras.Sequential.call
    return _functional(operation) if type(operation).call is expected else None


def _functional(operation: keras.Operation) -> keras.Model | None:
    """The graph that a Functional or Sequential model was made as, if it is one."""
    if isinstance(operation, keras.Sequential):
        operation = getattr(operation, "_functional", None)
    functional = keras.src.models.functional.Functional
    return operation if isinstance(operation, functional) else None


def _tensor(x: keras.KerasTensor) -> Tensor:
    shape = tuple(x.shape)
    # An unknown size that is the only one is the batch's, wherever it lies.
    moved = shape.count(None) == 1 and shape[0] is not None
    return Tensor(
        shape,
        keras.backend.standardize_dtype(x.dtype),
        x.name,
        batch=(shape.index(None),) if moved else (0,),
    )


def _keras_nodes(function: keras.Model) -> Iterator[Any]:
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield node


def _walk(
    function: keras.Model,
    inputs: Sequence[Tensor],
    context: dict[str, Any],
    nodes: Nodes,
    prefix: str,
) -> list[Tensor]:
    """Append the calls of `function` to `nodes`; return its output tensors.

    Args:
        function: the model.
        inputs: the tensors that it is called with.
        context: arguments that its call hands to all layers (`training`, say).
        nodes: the graph that is being made.
        prefix: the path of the model, with a slash at its end; "" for the outermost.
    """
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
        kwargs |= {k: v for k, v in context.items() if takes_context(operation, k)}
        args, kwargs = with_masks(operation, (args, kwargs))
        outputs, reason, path = None, "", prefix + operation.name
        try:
            outputs = _inline(operation, (args, kwargs), context, nodes, f"{path}/")
        except NoRule as error:
            reason = str(error)
        opened = id(operation) not in nodes.whole and may_be_opened(operation)
        if outputs is None and opened:
            try:
                outputs = open_call(operation, (args, kwargs), context, nodes, path)
            except NoRule as error:
                reason = str(error)
        if outputs is None:
            if same_shapes:
                outputs = [_tensor(x) for x in keras_node.outputs]
            else:
                outputs = _respecified(operation, args, kwargs)
            node = Node(operation, args, kwargs, outputs, path, reason)
            nodes += [node, *carry_masks(node)]
        known |= {
            id(x): tensor for x, tensor in zip(keras_node.outputs, outputs, strict=True)
        }
    return [known[id(x)] for x in function.outputs]


def _inline(
    operation: keras.Operation,
    arguments: Arguments,
    context: dict[str, Any],
    nodes: Nodes,
    prefix: str,
) -> list[Tensor] | None:
    """Walk into a nested model; None if it is none.

    Raises:
        NoRule: it is not plainly called.
    """
    if not isinstance(operation, keras.Model):
        return None
    inner = _inlinable(operation)
    if inner is None:
        return None
    args, kwargs = arguments
    masks = tree.flatten(kwargs.get("mask"))
    extra = {
        name: value
        for name, value in kwargs.items()
        if value is not None and name not in ("inputs", "mask")
    }
    if set(extra) - {"training"} or len(args) + ("inputs" in kwargs) != 1:
        raise NoRule("it is called with several arguments")
    passed = args[0] if args else kwargs["inputs"]
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
    for x, mask in zip(converted, masks, strict=False):
        if mask is not None:
            x.mask = mask  # Keras hangs it on the tensor itself
    return _walk(inner, converted, context | extra, nodes, prefix)


def _respecified(
    operation: keras.Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Tensor]:
    """Output tensors for the shapes of this very call of a nested model."""

    def spec(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return keras.KerasTensor(leaf.shape, leaf.dtype)
        return leaf

    specs = operation.compute_output_spec(
        *tree.map_structure(spec, args), **tree.map_structure(spec, kwargs)
    )
    return [_tensor(x) for x in tree.flatten(specs)]
