"""Operations of a model made anew, with their weights or what is left of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras

from pgmpf_tf.channels.elimination import Step
from pgmpf_tf.channels.graph import Graph
from pgmpf_tf.channels.nodes import Node, has_weights, part_of
from pgmpf_tf.channels.origins import Origin, cut_origins, whole_origins
from pgmpf_tf.inserting import Inserting
from pgmpf_tf.rules import Rebuilt, Weights


class CannotCopy(Exception):
    """A layer that is made of another's configuration has other weights."""

    def __init__(self, operation: keras.Operation) -> None:
        super().__init__(operation.name)
        self.operation = operation


class Copying(Inserting):
    """Copies operations, once each, and loads their weights.

    Args:
        deep: as for `Inserting`.
        weights: reads the weights of the old operations.
        whole: layers made of layers that should be copied, by `id`.
        uncopied: layers that cannot be: they serve both models.
    """

    graph: Graph

    def __init__(
        self,
        deep: bool,
        weights: Weights,
        whole: Collection[int],
        uncopied: Collection[int],
    ) -> None:
        super().__init__(deep)
        self.weights = weights
        self.whole_layers, self.uncopied = whole, uncopied
        self.operations: dict[tuple[Any, ...], keras.Operation] = {}
        self.reusable = False
        self.unloaded: list[tuple[keras.Operation, Mapping[str, str] | None]] = []
        self.whole: list[tuple[keras.Operation, keras.Operation]] = []
        self.cut: list[tuple[keras.Operation, Step, Mapping[str, str]]] = []
        self.free: set[str] = set()

    def copy(
        self, node: Node, config: Mapping[str, Any] | None = None
    ) -> keras.Operation:
        """The operation of a call anew; see `pgmpf_tf.rules.Builder`."""
        old, config = node.operation, config or {}
        key = id(old), type(old), repr(sorted(config.items()))
        if key not in self.operations:
            new = self._copied(node, config)
            self.operations[key] = new
            if new is not old:
                self.unloaded.append((new, None))
                self.named_operations[new.name] = new
        return self.operations[key]

    def _copied(self, node: Node, config: Mapping[str, Any]) -> keras.Operation:
        old = node.operation
        if self.reusable and old.name == node.name and old.name in self.free:
            self.free.discard(old.name)
            return old
        name = self._name(node)
        try:
            if id(old) in self.uncopied:
                raise CannotCopy(old)
            return type(old).from_config(old.get_config() | config | {"name": name})
        except Exception:
            if config or id(old) in self.whole_layers:
                raise
            if isinstance(old, keras.layers.Identity):  # made of an unknown policy
                return keras.layers.Identity(name=name)
            if name == old.name or name in self.named_operations:
                return old  # what cannot be copied is used in both models
            # It keeps its weights, under a name that is free. Keras' own copy() would
            # save and load it.
            new = object.__new__(type(old))
            vars(new).update(
                vars(old), name=name, _inbound_nodes=[], _outbound_nodes=[]
            )
            return new

    def layer(
        self,
        node: Node,
        kind: type[keras.layers.Layer],
        config: Mapping[str, Any],
        weights: Mapping[str, str],
    ) -> keras.layers.Layer:
        """Another layer in its place; see `pgmpf_tf.rules.Builder`."""
        key = id(node.operation), kind, repr(sorted(config.items()))
        if key not in self.operations:
            new = kind(**config, name=self._name(node))
            self.operations[key] = self.named_operations[new.name] = new
            self.unloaded.append((new, weights))
        return self.operations[key]

    def _load(self, step: Step, rebuilt: Rebuilt) -> None:
        """Hands the weights to the layers that a call has made."""
        for new, names in self.unloaded:
            if rebuilt.weights is None:
                self._load_whole(new, step.node.operation)
                continue
            if names is None:
                names = {name: name for name in rebuilt.weights}
            for name, old_name in names.items():
                variable = part_of(new, name)
                variable.assign(rebuilt.weights[old_name].reshape(variable.shape))
            self.cut.append((new, step, names))
        self.unloaded.clear()

    def _load_whole(self, new: keras.Operation, old: keras.Operation) -> None:
        if has_weights(old) and (
            not has_weights(new) or new.weights[0] is not old.weights[0]
        ):
            if _specs(new) != _specs(old):
                raise CannotCopy(old)
            new.set_weights([self.weights(variable) for variable in old.weights])
            self.whole.append((new, old))
            if hasattr(new, "finalize_state"):  # Normalization has copies of them
                new.finalize_state()
            if not type(new).__module__.startswith("keras.src."):
                _let_its_call_build(new)

    def origins(self, small: keras.Model) -> list[Origin]:
        """The origins of the weights of the model that `rewrite` made."""
        found: list[Origin] = []
        for new, old in self.whole:
            found += whole_origins(new, old)
        for new, step, names in self.cut:
            found += cut_origins(new, step, names)
        # A layer that could not be copied serves both models.
        shared = {id(weight) for weight in self.graph.function.weights}
        return found + [Origin(w, w) for w in small.weights if id(w) in shared]

    def _name(self, node: Node) -> str:
        """The call's name, once; then with a number that makes it unique."""
        if node.name in self.free:
            self.free.discard(node.name)
            return node.name
        return self.unique(node.name)


def _let_its_call_build(layer: keras.layers.Layer) -> None:
    """Lets no file name the shapes of a layer that cannot be built of those.

    JSON makes lists of tuples, which some layers of one's own refuse in `build`; others
    have no `build`, and layers in them that are built by a call. Without shapes Keras
    builds the layer where the graph calls it.
    """
    try:
        config = layer.get_build_config()
        if not config:
            return
        again = type(layer).from_config(layer.get_config())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again.build_from_config(json.loads(json.dumps(config)))
        complete = _specs(again) == _specs(layer)
    except Exception:  # whatever a layer of one's own raises
        complete = False
    if not complete:
        layer._build_shapes_dict = None


def _specs(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    return [(weight.name, tuple(weight.shape)) for weight in layer.weights]
