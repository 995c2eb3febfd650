"""Where each mask value goes: one vector over all layers' channels, cut once.

The training step computes one factor for every *slot*, a channel of a layer, and then
splits that vector into the pieces by which each variable's gradient is multiplied. The
number of operations this takes does not depend on the number of layers, apart from one
multiplication per variable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from pgmpf_tf.channels.units import Member


@dataclass(frozen=True)
class Shape:
    """The slots of all variables that one way of broadcasting serves.

    Attributes:
        trailing: how many axes follow the channel axis in these variables.
        dtype: their dtype.
        slots: the slots, one piece after the other, or None for all slots in order.
        sizes: the length of each piece.
        pieces: which variable takes which piece.
    """

    trailing: int
    dtype: str
    slots: np.ndarray | None
    sizes: tuple[int, ...]
    pieces: tuple[tuple[keras.Variable, int], ...]


@dataclass(frozen=True)
class SlotLayout:
    """Slots of all trainable variables that hold prunable units.

    Attributes:
        units: index into the mask for each slot, shape `(slots,)`. Variables of one
            layer share its slots, so kernel and bias of a filter share their fate.
        shapes: the ways in which the slots are broadcast to variables.
    """

    units: np.ndarray
    shapes: tuple[Shape, ...]


def mask_index(member: Member, position: np.ndarray) -> np.ndarray:
    """The index into the mask of each slice of a member.

    Args:
        member: the member.
        position: where each unit id stands in the mask; the last entry stands for
            slices without a unit.
    """
    # NO_UNIT is -1, so it indexes that last entry.
    return position[member.units]


def slot_layout(members: Iterable[Member], position: np.ndarray) -> SlotLayout:
    """Lays out the slots of the trainable variables among `members`.

    Args:
        members: the members whose gradients are to be masked.
        position: where each unit id stands in the mask; the last entry stands for
            slices without a unit.

    Returns:
        The layout.
    """
    starts: dict[tuple[int, bytes], int] = {}
    units: list[np.ndarray] = []
    kinds: dict[tuple[int, str], list[tuple[keras.Variable, int, int]]] = {}
    total = 0
    for member in members:
        if not member.variable.trainable:
            continue
        index = mask_index(member, position)
        key = (id(member.layer), index.tobytes())
        if key not in starts:
            starts[key] = total
            units.append(index)
            total += len(index)
        kind = (len(member.variable.shape) - 1 - member.axis, member.variable.dtype)
        kinds.setdefault(kind, []).append((member.variable, starts[key], len(index)))
    shapes = tuple(_shape(*kind, *[entries], total) for kind, entries in kinds.items())
    flat = np.concatenate(units) if units else np.zeros(0, np.int64)
    return SlotLayout(flat.astype(np.int32), shapes)


def _shape(
    trailing: int,
    dtype: str,
    entries: list[tuple[keras.Variable, int, int]],
    total: int,
) -> Shape:
    ranges = sorted({(start, size) for _, start, size in entries})
    piece = {start: number for number, (start, _) in enumerate(ranges)}
    slots = np.concatenate([np.arange(start, start + size) for start, size in ranges])
    return Shape(
        trailing,
        dtype,
        None if len(slots) == total else slots.astype(np.int32),
        tuple(size for _, size in ranges),
        tuple((variable, piece[start]) for variable, start, _ in entries),
    )
