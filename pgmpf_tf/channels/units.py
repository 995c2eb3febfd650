"""What the channel analysis says: units, the groups they compete in, and pins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import numpy as np

NO_UNIT = -1
"""Marks a slice of a variable that belongs to no prunable unit."""


@dataclass(frozen=True)
class Member:
    """One variable whose slices along `axis` live and die with units.

    Attributes:
        layer: the layer that owns the variable.
        variable: the variable; slice `k` along `axis` belongs to `units[k]`.
        axis: the channel axis in the variable's shape.
        role: what the slice is: `"kernel"` (scored by the criteria), `"bias"`,
            `"scale"` (BatchNorm gamma), `"offset"` (BatchNorm beta), `"mean"` (the
            moving mean of a BatchNorm that has no gamma), `"slope"` (PReLU), `"input"`
            (of a kernel, along the channels that it reads, where these would not be
            zero: behind a sigmoid, say). A kernel may be a member along both axes.
        units: int64 array, shape `(variable.shape[axis],)`: the unit of each slice,
            or `NO_UNIT`. A unit may occur several times (after a Flatten, say).
        path: where the layer is in the model: `"backbone/block1/conv"`.
    """

    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    role: str
    units: np.ndarray
    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            object.__setattr__(self, "path", self.layer.name)

    @property
    def frozen(self) -> bool:
        """Whether its layer keeps it from being trained at present."""
        return self.role != "mean" and not self.variable.trainable

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        """A value per slice, shaped so that it broadcasts to the variable."""
        trailing = len(self.variable.shape) - 1 - self.axis
        return values.reshape(-1, *(1,) * trailing)

    def scale(self, factors: np.ndarray) -> None:
        """Multiplies each slice of the variable by its factor, in place.

        Args:
            factors: one per slice, shape `(variable.shape[axis],)`.
        """
        if (factors != 1.0).any():
            broadcast = keras.ops.cast(self.broadcast(factors), self.variable.dtype)
            self.variable.assign(self.variable * broadcast)


@dataclass(frozen=True)
class Group:
    """Units whose members sit in the same variables; they compete with each other.

    Attributes:
        name: the path of the first layer in which the units are filters.
        units: int64 array of unit ids.
        members: every variable that holds slices of these units.
    """

    name: str
    units: np.ndarray
    members: tuple[Member, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the layers the members sit in, each once, in graph order."""
        return tuple(dict.fromkeys(member.path for member in self.members))

    @property
    def frozen(self) -> bool:
        """Whether a layer with filters of these units is not trainable at present."""
        return any(member.frozen for member in self.members if member.role == "kernel")


@dataclass(frozen=True)
class Pin:
    """Filters of a layer that cannot be pruned, and why.

    Attributes:
        layer: path of the layer whose filters these are.
        filters: how many of its filters are pinned; 0 for a layer without a rule,
            whose insides are not known.
        reason: the reason in words a user understands.
    """

    layer: str
    filters: int
    reason: str


@dataclass(frozen=True)
class Analysis:
    """The result of `pgmpf_tf.channels.analysis.analyze`.

    Attributes:
        unit_count: number of units; unit ids are `0 .. unit_count - 1`.
        groups: every prunable unit is in exactly one group.
        members: every variable with at least one slice in a unit, in graph order.
        pins: the layers that keep filters whatever the criterion says.
        filters: filters in all, by the layer's path: pinned or not.
    """

    unit_count: int
    groups: tuple[Group, ...]
    members: tuple[Member, ...]
    pins: tuple[Pin, ...]
    filters: Mapping[str, int] = field(default_factory=dict)

    def check_groups(self) -> None:
        """Raises ValueError, with reasons, if there is nothing to prune."""
        if not self.groups:
            reasons = "; ".join(f"{pin.layer}: {pin.reason}" for pin in self.pins)
            raise ValueError(
                "The model has no filters that can be pruned. "
                + (f"Its layers are pinned: {reasons}" if reasons else "")
            )
