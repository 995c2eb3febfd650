"""One run of a layer's `call` on symbols, in which all that it is made of is entered.

Keras' own `__call__` runs: it casts, hands on masks and `training`, and checks. Only
`symbolic_call`, which would make one opaque call of a layer, is replaced for the layers
that are entered, and put back.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.ops.node import Node as KerasNode

from pgmpf_tf.channels.arrays import Array, NoRule
from pgmpf_tf.channels.hooks import (
    einsum_in_lower_case,
    recorded_by,
    symbolic_calls_by,
)
from pgmpf_tf.channels.nodes import ruled_class


@dataclass(eq=False)
class Entered:
    """A call of a layer that was entered.

    Attributes:
        layer: the layer.
        args, kwargs: what its `call` got, masks and `training` included.
        inner: what its `call` returned, flat.
        outputs: what its `__call__` returned: other symbols, flat.
        calls: the calls that it is made of, in order.
    """

    layer: keras.layers.Layer
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inner: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    calls: list[Recorded] = field(default_factory=list)


@dataclass(eq=False)
class Recorded:
    """A call in a run.

    Attributes:
        operation: what is called; a layer that was entered, with what is in it.
        args, kwargs: what it is called with.
        outputs: what it returns, flat.
    """

    operation: keras.Operation | Entered
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[keras.KerasTensor]


@dataclass(frozen=True)
class Weight:
    """A weight that a run uses.

    Attributes:
        symbol: what stands for it.
        variable: the weight.
        layer: the layer that owns it.
    """

    symbol: keras.KerasTensor
    variable: keras.Variable
    layer: keras.layers.Layer


def may_be_opened(operation: keras.Operation) -> bool:
    """Whether a layer may be opened: no rule speaks for it, and it is not stock."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    kind = type(operation)
    return (
        ruled_class(kind) is None
        and not kind.__module__.startswith("keras.src.layers.")
        and operation.activity_regularizer is None
        and operation.quantization_mode is None
    )


class _Guard(keras.StatelessScope):
    """While a `call` is traced no variable has a value, and nothing is changed."""

    def __init__(self) -> None:
        super().__init__(collect_losses=True)

    def get_current_value(self, variable: keras.Variable) -> Any:
        if "seed" in variable.name:
            raise NoRule("it draws random numbers")
        raise NoRule(
            f"it reads the weight '{variable.path}' in another way than a "
            "layer or keras.ops do"
        )

    def add_update(self, update: Any) -> None:
        raise NoRule("it changes its state, or draws random numbers")

    def add_loss(self, loss: Any) -> None:
        raise NoRule("it adds a loss")


class Run:
    """Calls a layer once, on symbols.

    Args:
        root: the layer.
        closed: layers that are not to be entered, by `id`, and why. Those whose `call`
            cannot be traced are added.

    Attributes:
        sources: the weights that were used, by the `id` of the variable and the dtype.
        constants: symbols that stand for arrays, with these.
        passing: layers without weights that return what they get, by `id`.
    """

    def __init__(self, root: keras.layers.Layer, closed: dict[int, str]) -> None:
        self._root = root
        self._closed = closed
        self._made: dict[int, Entered] = {}
        self._entered: set[int] = set()
        self._integers: dict[int, Any] = {}
        self._guard = _Guard()
        self._layers = root._flatten_layers()
        self._known = {id(layer) for layer in self._layers}
        self._real: dict[int, tuple[keras.Variable, keras.layers.Layer]] = {}
        self._kept: list[Any] = []
        self.sources: dict[tuple[int, str], Weight] = {}
        self.constants: list[tuple[keras.KerasTensor, Array]] = []
        self.passing: set[int] = set()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entered:
        """Calls the root.

        Returns:
            The call, with all that it is made of.

        Raises:
            NoRule: its `call` cannot be traced.
        """
        for layer in self._layers:
            for variable in _own_variables(layer):
                if not _is_float(variable) and not variable.trainable:
                    self._integers[id(variable)] = keras.ops.copy(variable)
        self._kept += [args, kwargs]  # symbols are known by their ids
        with self._patched(), self._guard:
            result = self._root(*args, **kwargs)
            entered = self._made.get(id(next(iter(tree.flatten(result)), None)))
            if id(self._root) in self._closed or entered is None:
                raise NoRule(self._closed.get(id(self._root), "it returns nothing"))
            given = tree.flatten((args, kwargs))
            given += [getattr(x, "_keras_mask", None) for x in given]
            known = {id(x) for x in given if isinstance(x, keras.KerasTensor)}
            known |= {id(weight.symbol) for weight in self.sources.values()}
            known |= {id(symbol) for symbol, _ in self.constants}
            self._order(entered, known)
        return entered

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """Has the layers entered; whatever a run leaves behind in Keras is removed."""
        hooks = (
            recorded_by(self._note, self._layers),
            symbolic_calls_by(self._enter_if_new),
            einsum_in_lower_case(),
        )
        try:
            for layer in self._layers:
                if may_be_opened(layer):
                    vars(layer)["symbolic_call"] = functools.partial(self._enter, layer)
                elif isinstance(layer, keras.layers.EinsumDense):
                    vars(layer)["symbolic_call"] = functools.partial(_sized, layer)
                if layer.variables:
                    vars(layer)["call"] = functools.partial(self._on_constants, layer)
            with contextlib.ExitStack() as stack, warnings.catch_warnings():
                for hook in hooks:
                    stack.enter_context(hook)
                warnings.simplefilter("ignore")
                yield
        finally:
            for layer in self._layers:
                vars(layer).pop("symbolic_call", None)
                vars(layer).pop("call", None)

    def _note(self, operation: Any, **call: Any) -> Any:
        """Stands in for Keras' record of a call, which entered layers do not need."""
        entered = id(operation) in self._entered and id(operation) not in self._closed
        return None if entered else KerasNode(operation=operation, **call)

    def _enter_if_new(
        self, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> Any:
        """Stands in for `symbolic_call` of layers that a `call` has made."""
        if id(layer) in self._known or not may_be_opened(layer):
            return layer.compute_output_spec(*args, **kwargs)
        self._kept.append(layer)
        return self._enter(layer, *args, **kwargs)

    def _enter(self, layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        """Stands in for a layer's `symbolic_call`: its `call` runs, on symbols."""
        if id(layer) in self._closed:
            return type(layer).symbolic_call(layer, *args, **kwargs)
        try:
            with self._own_symbols(layer):
                inner = type(layer).call(layer, *args, **kwargs)
            inner = tree.map_structure(self._constant, inner)
            results = [x for x in tree.flatten(inner) if x is not None]
            if not results or not all(
                isinstance(x, keras.KerasTensor) for x in results
            ):
                raise NoRule("it returns something else than tensors")
        except Exception as error:  # anything at all may be in a user's call()
            if id(layer) not in self._known:
                raise  # the next run makes another: what made it is closed instead
            self._closed[id(layer)] = _reason(error)
            return type(layer).symbolic_call(layer, *args, **kwargs)
        if len(results) == 1 and args and results[0] is args[0] and not layer.weights:
            self.passing.add(id(layer))
        outputs = tree.map_structure(self._twin, inner)
        flat = [x for x in tree.flatten(outputs) if x is not None]
        entered = Entered(layer, args, kwargs, results, flat)
        self._made |= {id(x): entered for x in entered.outputs}
        self._entered.add(id(layer))
        return outputs

    def _on_constants(
        self, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> Any:
        """Stands in for the `call` of a layer with weights, on arrays: symbols too."""
        if keras.src.backend.common.stateless_scope.get_stateless_scope() is not (
            self._guard
        ):
            return type(layer).call(layer, *args, **kwargs)
        args, kwargs = tree.map_structure(self._constant, (args, kwargs))
        outputs = layer.symbolic_call(*args, **kwargs)
        KerasNode(layer, args, kwargs, outputs)
        return outputs

    def _constant(self, leaf: Any) -> Any:
        if not keras.ops.is_tensor(leaf):
            return leaf
        values = np.asarray(keras.ops.convert_to_numpy(leaf))
        if values.dtype.name in ("uint32", "uint64") or values.dtype.kind not in "biuf":
            raise NoRule(f"it has constants of dtype {values.dtype.name}")
        symbol = keras.KerasTensor(values.shape, leaf.dtype)
        self.constants.append((symbol, values))
        return symbol

    @contextlib.contextmanager
    def _own_symbols(self, layer: keras.layers.Layer) -> Iterator[None]:
        """The variables of a layer, and of the layers in it, are symbols.

        Of those in it too, since a `call` may use them without calling these layers.
        """
        inside = [x for x in layer._flatten_layers() if may_be_opened(x)]
        before = [(each, dict(vars(each))) for each in inside]
        try:
            for each, attributes in before:
                if not _own_variables(each):
                    continue
                for name, value in attributes.items():
                    if name not in _TRACKED:
                        swapped = self._swapped(value, each)
                        if swapped is not value:
                            vars(each)[name] = swapped
            yield
        finally:
            for each, attributes in before:
                vars(each).update(attributes)
                for name in vars(each).keys() - attributes.keys():
                    del vars(each)[name]

    def _swapped(self, value: Any, layer: keras.layers.Layer) -> Any:
        """An attribute of a layer with symbols for its variables."""
        variable, owner = self._real.get(id(value), (value, layer))
        if isinstance(variable, keras.Variable):
            return self._symbol(variable, owner)
        if isinstance(value, (list, tuple)):
            swapped = [self._swapped(x, layer) for x in value]
            return value if all(map(operator.is_, value, swapped)) else swapped
        if isinstance(value, dict):
            found = {k: self._swapped(x, layer) for k, x in value.items()}
            same = all(found[k] is value[k] for k in found)
            return value if same else found
        return value

    def _symbol(self, variable: keras.Variable, layer: keras.layers.Layer) -> Any:
        if id(variable) in self._integers:
            return self._integers[id(variable)]
        dtype = keras.backend.standardize_dtype(variable.dtype)
        scope = keras.src.backend.common.variables.get_autocast_scope()
        if scope is not None and scope.dtype and variable._autocast:
            dtype = scope.dtype if _is_float(variable) else dtype
        key = id(variable), dtype
        if key not in self.sources:
            symbol = keras.KerasTensor(variable.shape, dtype, name=variable.name)
            self.sources[key] = Weight(symbol, variable, layer)
            self._real[id(symbol)] = variable, layer
        return self.sources[key].symbol

    def _twin(self, x: keras.KerasTensor | None) -> keras.KerasTensor | None:
        if x is None:
            return None
        twin = keras.KerasTensor(x.shape, x.dtype)
        if getattr(x, "_keras_mask", None) is not None:
            twin._keras_mask = x._keras_mask
        return twin

    def _order(self, entered: Entered, known: set[int]) -> None:
        """Lists what a call is made of, each after what it needs."""
        stack = entered.inner[::-1]
        waiting: set[int] = set()
        while stack:
            x = stack[-1]
            if id(x) in known:
                stack.pop()
                continue
            inside = self._made.get(id(x))
            if inside is not None:
                call = Recorded(inside, inside.args, inside.kwargs, inside.outputs)
            else:
                call = _recorded(x)
            missing = [
                t
                for t in tree.flatten((call.args, call.kwargs))
                if isinstance(t, keras.KerasTensor) and id(t) not in known
            ]
            if missing:
                if id(x) in waiting:
                    raise NoRule("it hands a tensor to an operation inside a function")
                waiting.add(id(x))
                stack += missing[::-1]
                continue
            if inside is not None:
                self._order(inside, known)
            known |= {id(t) for t in call.outputs}
            entered.calls.append(call)


def _recorded(x: keras.KerasTensor) -> Recorded:
    """The call that made a symbol."""
    history = getattr(x, "_keras_history", None)
    if history is None or history.operation is None:
        raise NoRule("it uses a tensor that is not an argument of its call()")
    node = history.operation._inbound_nodes[history.node_index]
    return Recorded(
        history.operation, node.arguments.args, node.arguments.kwargs, node.outputs
    )


def _sized(
    layer: keras.layers.EinsumDense, x: keras.KerasTensor, **options: Any
) -> Any:
    """What an EinsumDense returns, with the sizes that it need not say."""
    y = type(layer).symbolic_call(layer, x, **options)
    operands, result = layer.equation.replace(" ", "").split("->")
    source, kernel = operands.split(",")
    if "." in source or None not in y.shape:
        return y
    sizes = dict(zip(source, x.shape, strict=True))
    sizes |= dict(zip(kernel, layer.kernel.shape, strict=True))
    return keras.KerasTensor([sizes[letter] for letter in result], y.dtype)


_TRACKED = {"_trainable_variables", "_non_trainable_variables", "_tracker"}


def _own_variables(layer: keras.layers.Layer) -> Iterable[keras.Variable]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _is_float(variable: keras.Variable) -> bool:
    return bool(keras.backend.is_float_dtype(variable.dtype))


def _reason(error: Exception) -> str:
    """What to tell the user of an error in a `call`."""
    if isinstance(error, NoRule):
        return f"its call() cannot be traced on symbolic inputs: {error}"
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return (
        "its call() cannot be traced on symbolic inputs, use keras layers and "
        f"keras.ops in it: {first}"
    )
