"""Labels that flow: which channels are tied together, and what holds them back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgmpf_tf.channels.slots import as_axis

NO_LABEL = -1
"""A slot that no filter writes: a constant, or zeros from a padding."""


@dataclass(frozen=True)
class Channels:
    """What the label analysis knows of one tensor.

    Attributes:
        labels: int slot array, who lives in each slot, or `NO_LABEL`.
        pruned: float slot array of the same shape: the value of the slot wherever its
            unit is pruned (0 in the good case), NaN where it is not known.
    """

    labels: np.ndarray
    pruned: np.ndarray


@dataclass(frozen=True)
class LabelledVariable:
    """A variable whose slice `k` along `axis` belongs to `labels[k]`."""

    layer: object
    variable: object
    axis: int
    role: str
    labels: np.ndarray


class Flow:
    """Collects labels, ties, pins and per-channel variables on the way through a graph.

    Args:
        independent: do not tie labels at sums: every convolution loses its own filters
            and the sum keeps its width, as in the paper.
    """

    def __init__(self, independent: bool = False):
        self.independent = independent
        self.count = 0
        self.variables: dict[int, LabelledVariable] = {}
        self.filters_of: dict[str, np.ndarray] = {}
        self._fed: dict[int, np.ndarray] = {}
        self.opaque_layers: dict[str, str] = {}
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._pins: list[tuple[np.ndarray, str]] = []

    def fresh(self, size: int) -> np.ndarray:
        """New labels, tied to nothing."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """What lives in `a` lives and dies with what lives in `b`, slot by slot."""
        a, b = np.broadcast_arrays(a, b)
        both = (a != b) & (a >= 0) & (b >= 0)
        if both.any():
            self._ties.append((a[both], b[both]))

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """These channels stay, whatever the criterion says."""
        labels = labels[labels >= 0]
        if labels.size:
            self._pins.append((np.unique(labels), reason))

    def read(self, channels: Channels, reader: str) -> None:
        """`reader` mixes these channels: what would not be zero there must stay."""
        loud = (channels.labels >= 0) & ~(channels.pruned == 0)
        if loud.any():
            value = channels.pruned[loud][0]
            what = "a value that depends on the input" if value != value else value
            self.pin(
                channels.labels[loud], f"pruned, it would put {what} into {reader}"
            )

    def feed(self, kernel, labels: np.ndarray) -> None:
        """A kernel reads these channels; all its calls read with the same rows."""
        self.tie(self._fed.setdefault(id(kernel), labels), labels)

    def filters(self, layer, variable, axis: int) -> np.ndarray:
        """Labels of the filters of a layer: fresh, or those of its first call."""
        known = self.variables.get(id(variable))
        if known is not None:
            return known.labels
        labels = self.fresh(variable.shape[axis])
        self.filters_of.setdefault(layer.name, labels)
        self.member(layer, variable, axis, "kernel", labels)
        return labels

    def member(self, layer, variable, axis: int, role: str, labels) -> None:
        """Slice `k` of the variable along `axis` lives and dies with `labels[k]`."""
        known = self.variables.get(id(variable))
        if known is None:
            axis %= len(variable.shape)
            self.variables[id(variable)] = LabelledVariable(
                layer, variable, axis, role, labels
            )
        else:
            self.tie(known.labels, labels)

    def opaque(self, operation, reason: str) -> None:
        """Note an operation without a rule, if it has anything that could be cut."""
        if any(len(w.shape) > 1 for w in getattr(operation, "weights", ())):
            why = f": {reason}" if reason else ""
            self.opaque_layers[operation.name] = (
                f"no rule for this {type(operation).__name__}, it stays whole{why}"
            )

    def fibre(self, channels: Channels, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and values along one axis; what varies along others is tied."""
        labels = np.moveaxis(channels.labels, axis, -1)
        labels = labels.reshape(-1, labels.shape[-1])
        first = labels.max(axis=0)
        if labels.shape[0] > 1:
            self.tie(labels, first)
        return first, fibre_values(channels.pruned, axis)

    def join(self, sources: list[np.ndarray]) -> np.ndarray:
        """Tie sources slot by slot; one that is broadcast over channels is pinned."""
        shape = np.broadcast_shapes(*(s.shape for s in sources))
        result = np.full(shape, NO_LABEL)
        for source in sources:
            if source.shape != shape and (source >= 0).any():
                stretched = [i for i, n in enumerate(source.shape) if n != shape[i]]
                self.pin(source, "it is broadcast over all channels of another tensor")
                if stretched:
                    continue
            self.tie(result, source)
            result = np.where(result >= 0, result, source)
        return result

    def components(self) -> np.ndarray:
        """For each label, the smallest label it is tied to."""
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

    def pinned(self, components: np.ndarray) -> dict[int, str]:
        """The first reason why each pinned component is pinned."""
        reasons: dict[int, str] = {}
        for labels, reason in self._pins:
            for root in np.unique(components[labels]):
                reasons.setdefault(int(root), reason)
        return reasons


def fibre_values(values: np.ndarray, axis: int) -> np.ndarray:
    """Known constants along one axis: NaN where they differ along the others."""
    moved = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return np.where((moved == moved[:1]).all(axis=0), moved[0], np.nan)


def along_axis(labels, pruned, axis: int, rank: int) -> Channels:
    """Channels that vary along one axis only."""
    return Channels(as_axis(labels, axis, rank), as_axis(pruned, axis, rank))
