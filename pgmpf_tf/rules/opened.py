"""What only opened layers have: weights of their own, constants, repetition."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from pgmpf_tf.channels.arrays import Array, NoRule, everything, kept_along, on_axis
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Layout, Rule, Sizes
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.rebuilding import Builder, Cut, NewTensors, Rebuilt, narrower
from pgmpf_tf.rules.weights import Weights


class Made(Rule):
    """A tensor that is made of none."""

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return []

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return 0


class Source(Made):
    """A weight of an opened layer: a class token, a table of positions, a scale.

    Its slices along the last axis that has several live and die with the channels that
    they meet. It becomes an `Embedding` of one entry, which any backend trains, saves
    and exports.
    """

    @staticmethod
    def axis(node: Node) -> int | None:
        """The axis of its slices; None if it is one number."""
        shape = node.operation.variable.shape
        return next((a for a in reversed(range(len(shape))) if shape[a] > 1), None)

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        variable, axis = node.operation.variable, self.axis(node)
        rank = len(variable.shape)
        if axis is None:
            one = np.full((1,) * rank, NO_LABEL)
            return [Channels(one, np.full(one.shape, np.nan))]
        flow.member(node, variable, axis, "weight", flow.fresh(variable.shape[axis]))
        labels = on_axis(flow.variables[id(variable)].labels, axis, rank)
        return [Channels(labels, np.zeros(labels.shape))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        zero = weights(node.operation.variable) == 0
        axis = self.axis(node)
        others = tuple(a for a in range(zero.ndim) if a != axis)
        return [np.where(zero.all(axis=others, keepdims=True), 0.0, np.nan)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        assert needed[0] is not None  # what nobody uses is not asked
        axis, rank = self.axis(node), needed[0].ndim
        if axis is None:
            return [], [everything(rank)]
        return [], [on_axis(kept_along(needed[0], axis), axis, rank)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        variable, axis = node.operation.variable, self.axis(node)
        values = weights(variable)
        if axis is not None:
            chosen = kept_along(cut.outputs[0], axis)
            if not chosen.all():
                values = np.compress(chosen, values, axis=axis)

        def build(builder: Builder, inputs: NewTensors) -> Any:
            config = {
                "input_dim": 1,
                "output_dim": int(values.size),
                "embeddings_regularizer": variable.regularizer,
                "trainable": variable.trainable,
                "dtype": node.operation.policy,
            }
            layer = builder.layer(
                node, keras.layers.Embedding, config, {"embeddings": "variable"}
            )
            x = layer(builder.zeros((1,), "int32"))
            return builder.named(ops.reshape(x, values.shape), f"{node.name}_shape")

        return Rebuilt(build, {"variable": values})


class Constant(Made):
    """An array: it is added to zeros, so that it is a part of the graph."""

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        one = np.full((1,) * node.operation.values.ndim, NO_LABEL)
        return [Channels(one, np.full(one.shape, np.nan))]

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return [np.full((1,) * node.operation.values.ndim, np.nan)]

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        return [], [everything(node.operation.values.ndim)]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        values, dtype = node.operation.values, node.outputs[0].dtype
        signed = values.dtype.kind in "if"

        def build(builder: Builder, inputs: NewTensors) -> Any:
            zeros = builder.zeros(values.shape, dtype if signed else "int32")
            numbers = values if signed else values.astype("int32")
            x = builder.named(ops.subtract(zeros, -numbers), node.name)
            return x if signed else builder.named(ops.cast(x, dtype), node.name)

        return Rebuilt(build, {})


class Broadcast(Entrywise):
    """`broadcast_to`, and repetition for every sample."""

    def sources(self, node: Node, arrays: list[Array], fill: Any) -> list[list[Array]]:
        before, after = node.inputs[0], node.outputs[0]
        missing = len(after.shape) - len(before.shape)
        if missing and before.batch:
            raise NoRule("it moves the batch axis")
        return [[arrays[0].reshape((1,) * missing + arrays[0].shape)]]

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        out = node.outputs[0]
        chosen = [kept_along(cut.outputs[0], axis) for axis in range(len(out.shape))]
        shape = [
            size if kept.all() else int(kept.sum())
            for size, kept in zip(out.shape, chosen, strict=True)
        ]
        if 0 not in out.batch:
            return narrower(node, {"shape": tuple(shape)})

        def build(builder: Builder, inputs: NewTensors) -> Any:
            (x,) = inputs
            assert x is not None
            target = (1, *shape[1:])
            if tuple(x.shape) != target:
                x = builder.named(ops.broadcast_to(x, target), node.name)
            zeros = builder.zeros((None,) + (1,) * (len(shape) - 1), out.dtype)
            # Keras takes some additions for those of a bias, at some batch sizes.
            return builder.named(ops.subtract(x, zeros), node.name)

        return Rebuilt(build, {})


class Passing(Entrywise):
    """A layer that returns its input at inference: stochastic depth, say."""

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        inner = dataclasses.replace(node, operation=node.operation.layer)
        return Rebuilt(narrower(inner).build)
