"""Labels that flow: which channels are tied together, and what holds them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, on_axis
from pgmpf_tf.channels.nodes import Node, part_of

NO_LABEL = -1
"""An entry that no filter writes: a constant, or zeros from a padding."""

_BROADCAST = "it is broadcast over all channels of another tensor"


@dataclass(frozen=True)
class Channels:
    """What the label analysis knows of one tensor.

    Attributes:
        labels: int channel array: which label each entry has, or `NO_LABEL`.
        pruned: float channel array of the same shape: the value of the entry wherever
            its unit is pruned (0 in the good case), NaN where it is not known.
    """

    labels: Array
    pruned: Array


@dataclass(frozen=True)
class LabeledVariable:
    """A variable whose slice `k` along `axis` belongs to `labels[k]`.

    Attributes:
        layer: the layer that owns the variable.
        owner: the layer of the graph that is this layer, or holds it.
        path: where that layer is in the model: `"backbone/block1/conv"`.
        variable: the variable.
        axis: its channel axis.
        role: what the slices are; see `pgmpf_tf.channels.units.Member`.
        labels: one per slice.
    """

    layer: keras.layers.Layer
    owner: keras.layers.Layer
    path: str
    variable: keras.Variable
    axis: int
    role: str
    labels: Array


class Flow:
    """Collects labels, ties, pins and per-channel variables on the way through a graph.

    Args:
        independent: do not tie labels at sums: every convolution loses its own filters
            and the sum keeps its width, as in the paper.

    Attributes:
        variables: what is known of variables, by their `id`.
        inputs: the kernels that read channels which would not be zero where they are
            pruned: their slices along these, by the `id` of the kernel.
        filters_of: the labels of the filters of a layer, by its path.
        opaque_layers: why layers stay whole of which nothing is known, by path.
        count: how many labels there are.
    """

    def __init__(self, independent: bool = False):
        self.independent = independent
        self.count = 0
        self.variables: dict[int, LabeledVariable] = {}
        self.inputs: dict[int, LabeledVariable] = {}
        self.filters_of: dict[str, Array] = {}
        self.opaque_layers: dict[str, str] = {}
        self._readers: dict[int, Array] = {}
        self._infinite: set[int] = set()
        self._ties: list[tuple[Array, Array]] = []
        self._pins: list[tuple[Array, str]] = []
        self._spread: list[Array] = []
        self._along: list[tuple[Array, Array]] = []

    def fresh(self, size: int) -> Array:
        """New labels, tied to nothing."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def tie(self, a: Array, b: Array) -> None:
        """What has label `a` lives and dies with what has label `b`, by entry."""
        a, b = np.broadcast_arrays(a, b)
        both = (a != b) & (a >= 0) & (b >= 0)
        if both.any():
            self._ties.append((a[both], b[both]))

    def spread(self, labels: Array) -> None:
        """What lies along several axes must go in whole slices of one of them.

        Which one, is for the operations to say that come after: attention ties what is
        in a head. If none does, it is the longest.
        """
        if sum(size > 1 for size in labels.shape) > 1:
            self._spread.append(labels)

    def tie_unless_whole(self, vector: Array, labels: Array) -> None:
        """Ties what lies along some axes to channels that lie along others as well.

        A scale along one axis of channels lives and dies with what it scales, except
        where whole slices along the others go (the heads of attention): it stays then.
        `settle` finds out, after the operations that tie what is in a head.

        Args:
            vector: labels that vary along some axes.
            labels: labels that vary along more.
        """
        self._along.append((vector, labels))

    def settle(self) -> None:
        """Decides what `tie_unless_whole` has left open."""
        roots = self._tied()
        for vector, labels in self._along:
            axes = tuple(axis for axis, size in enumerate(vector.shape) if size > 1)
            found = np.where(labels >= 0, roots[labels], NO_LABEL)
            if (found == found.max(axis=axes, keepdims=True)).all():
                self.pin(vector, _BROADCAST)
            else:
                self.tie(vector, labels)
        self._along.clear()

    def pin(self, labels: Array, reason: str) -> None:
        """These channels stay, whatever the criterion says."""
        labels = labels[labels >= 0]
        if labels.size:
            self._pins.append((np.unique(labels), reason))

    def mix(self, channels: Channels, reader: str, *, constants: bool = False) -> None:
        """`reader` mixes these channels: what would not be zero there must stay.

        Args:
            channels: what it reads.
            reader: its name, for the reason.
            constants: whether it can do without constants, not only without zeros.
        """
        held = self._held(channels, constants)
        if held.any():
            value = channels.pruned[held][0]
            what = "a value that depends on the input" if value != value else value
            self.pin(
                channels.labels[held], f"pruned, it would put {what} into {reader}"
            )

    def may_be_infinite(self, labels: Array) -> None:
        """These channels may hold infinity or NaN where they are pruned."""
        self._infinite.update(labels[labels >= 0].tolist())

    def infinite(self, labels: Array) -> Array:
        """bool: which labels `may_be_infinite` was told of."""
        return np.isin(labels, list(self._infinite))

    def read_by_zeros(self, channels: Channels, reader: str) -> Array:
        """Zeros are multiplied by channels where they are pruned: infinite ones stay.

        Args:
            channels: what is read.
            reader: its name, for the reason.

        Returns:
            bool, by channel: whether all is well.
        """
        infinite = np.isnan(channels.pruned) & self.infinite(channels.labels)
        labels = np.where(infinite, channels.labels, NO_LABEL)
        self.mix(Channels(labels, channels.pruned), reader)
        return ~infinite

    def read(
        self,
        node: Node,
        kernel: keras.Variable,
        axis: int,
        channels: Channels,
        *,
        constants: bool = False,
    ) -> None:
        """A kernel reads these channels: what would not be zero there, it must not see.

        Its slices become members of the channels' units.

        Args:
            node: the call.
            kernel: the variable.
            axis: its axis of input channels.
            channels: what it reads, along one axis.
            constants: whether it can do without constants, not only without zeros.
        """
        finite = self.read_by_zeros(channels, f"'{node.path}'")
        held = self._held(channels, constants) & finite
        if not held.any():
            return
        labels = np.where(held, channels.labels, NO_LABEL)
        known = self.inputs.get(id(kernel))
        if known is not None:  # the labels of all calls are tied
            labels = np.maximum(known.labels, labels)
        self.inputs[id(kernel)] = LabeledVariable(
            node.operation,
            node.operation,
            node.path,
            kernel,
            axis % len(kernel.shape),
            "input",
            labels,
        )

    @staticmethod
    def _held(channels: Channels, constants: bool) -> Array:
        """Which channels would be seen where they are pruned."""
        fine = ~np.isnan(channels.pruned) if constants else channels.pruned == 0
        return (channels.labels >= 0) & ~fine

    def tie_calls(self, kernel: keras.Variable, labels: Array) -> None:
        """A kernel reads these channels; all its calls read with the same rows."""
        self.tie(self._readers.setdefault(id(kernel), labels), labels)

    def filters(
        self,
        node: Node,
        variable: keras.Variable,
        axis: int,
        part: str = "",
        blocks: int = 1,
    ) -> Array:
        """Labels of the filters of a layer: fresh, or those of its first call.

        Args:
            node: the call.
            variable: the kernel.
            axis: the kernel's axis of filters.
            part: which sublayer owns the kernel, as in `member`.
            blocks: in how many blocks, one after the other, each filter has a slice.
        """
        known = self.variables.get(id(variable))
        if known is not None:
            return known.labels
        labels = self.fresh(variable.shape[axis] // blocks)
        slices = np.tile(labels, blocks)
        self.member(node, variable, axis, "kernel", slices, part)
        path, number = self.variables[id(variable)].path, 2
        while path in self.filters_of:  # layers in a layer may have equal names
            path, number = f"{path.partition('#')[0]}#{number}", number + 1
        self.filters_of[path] = labels
        return slices

    def member(
        self,
        node: Node,
        variable: keras.Variable,
        axis: int,
        role: str,
        labels: Array,
        part: str = "",
    ) -> None:
        """Slice `k` of the variable along `axis` lives and dies with `labels[k]`.

        Args:
            node: the call of the layer.
            variable: the variable.
            axis: its channel axis.
            role: what the slices are; see `pgmpf_tf.channels.units.Member`.
            labels: one per slice.
            part: which sublayer owns the variable, as a dotted path of attributes;
                "" is the layer itself.
        """
        known = self.variables.get(id(variable))
        if known is not None:
            self.tie(known.labels, labels)
            return
        layer = part_of(node.operation, part)
        path = f"{node.path}/{layer.name}" if part else node.path
        self.variables[id(variable)] = LabeledVariable(
            layer,
            node.operation,
            path,
            variable,
            axis % len(variable.shape),
            role,
            labels,
        )

    def opaque(self, node: Node, reason: str) -> None:
        """Note an operation without a rule, if it has anything that could be cut."""
        operation = node.operation
        if any(len(w.shape) > 1 for w in getattr(operation, "weights", ())):
            why = f": {reason}" if reason else ""
            self.opaque_layers[node.path] = (
                f"no rule for this {type(operation).__name__}, it stays whole{why}"
            )

    def vector(self, channels: Channels, axis: int) -> tuple[Array, Array]:
        """Labels and values along one axis; what varies along others is tied."""
        labels = np.moveaxis(channels.labels, axis, -1)
        labels = labels.reshape(-1, labels.shape[-1])
        first = labels.max(axis=0)
        if labels.shape[0] > 1:
            self.tie(labels, first)
        return first, values_on_axis(channels.pruned, axis)

    def join(self, sources: list[Array], zero: Sequence[bool] = ()) -> Array:
        """Tie sources by entry; one that is broadcast over all channels is pinned.

        What is broadcast along one of several axes (a number for each head) lives and
        dies with whole slices, or stays if these are slices along other axes.

        Args:
            sources: labels that are combined.
            zero: for each source, whether zeros in the others make zeros of all.
        """
        shape = np.broadcast_shapes(*(s.shape for s in sources))
        result = np.full(shape, NO_LABEL)
        full = any(s.shape == shape and (s >= 0).all() for s in sources)
        for place, source in enumerate(sources):
            if source.shape != shape and (source >= 0).any():
                if source.size == 1:
                    self.pin(source, _BROADCAST)
                    continue
                if full and place < len(zero) and zero[place]:
                    self.tie_unless_whole(source, result)
                    continue
            self.tie(result, source)
            result[...] = np.where(result >= 0, result, source)
        return result

    def components(self) -> Array:
        """For each label, the smallest label it is tied to."""
        components = self._tied()
        for labels in self._spread:
            axes = [axis for axis, size in enumerate(labels.shape) if size > 1]
            roots = np.where(labels >= 0, components[labels], NO_LABEL)
            if not any(_whole(roots, axis) for axis in axes):
                axes.remove(max(axes, key=lambda axis: labels.shape[axis]))
                self.tie(labels, labels.max(axis=tuple(axes), keepdims=True))
                components = self._tied()
        self._spread.clear()
        return components

    def _tied(self) -> Array:
        parent = np.arange(self.count)
        if not self._ties:
            return parent
        a = np.concatenate([tie[0] for tie in self._ties])
        b = np.concatenate([tie[1] for tie in self._ties])
        while True:
            root_a, root_b = parent[a], parent[b]
            if (root_a == root_b).all():
                return parent
            low, high = np.minimum(root_a, root_b), np.maximum(root_a, root_b)
            np.minimum.at(parent, high, low)
            while (parent[parent] != parent).any():
                parent = parent[parent]

    def pinned(self, components: Array) -> dict[int, str]:
        """The first reason why each pinned component is pinned."""
        reasons: dict[int, str] = {}
        for labels, reason in self._pins:
            for root in np.unique(components[labels]):
                reasons.setdefault(int(root), reason)
        return reasons


def _whole(roots: Array, axis: int) -> bool:
    """Whether what is tied is whole slices along an axis, apart from `NO_LABEL`."""
    others = tuple(a for a in range(roots.ndim) if a != axis)
    first = roots.max(axis=others, keepdims=True)
    return bool(((roots == first) | (roots < 0)).all())


def values_on_axis(values: Array, axis: int) -> Array:
    """Known constants along one axis: NaN where they differ along the others."""
    moved = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return np.where((moved == moved[:1]).all(axis=0), moved[0], np.nan)


def channels_on_axis(labels: Array, pruned: Array, axis: int, rank: int) -> Channels:
    """Channels that vary along one axis only."""
    return Channels(on_axis(labels, axis, rank), on_axis(pruned, axis, rank))
