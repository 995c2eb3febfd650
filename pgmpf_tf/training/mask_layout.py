"""Where each mask value goes: one vector over all layers' channels, cut once.

The training step computes one factor for every *entry*, a channel of a layer, and then
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
class Pieces:
    """The entries of all variables that one way of broadcasting serves.

    Attributes:
        trailing: how many axes follow the channel axis in these variables.
        dtype: their dtype.
        entries: the entries, one piece after the other, or None for all in order.
        sizes: the length of each piece.
        of_variables: which variable takes which piece.
    """

    trailing: int
    dtype: str
    entries: np.ndarray | None
    sizes: tuple[int, ...]
    of_variables: tuple[tuple[keras.Variable, int], ...]


@dataclass(frozen=True)
class MaskLayout:
    """The entries of all trainable variables that hold prunable units.

    Attributes:
        units: index into the mask for each entry, shape `(entries,)`. Variables of one
            layer share its entries, so kernel and bias of a filter share their fate.
        pieces: the ways in which the entries are broadcast to variables.
    """

    units: np.ndarray
    pieces: tuple[Pieces, ...]


def mask_index(member: Member, position: np.ndarray) -> np.ndarray:
    """The index into the mask of each slice of a member.

    Args:
        member: the member.
        position: where each unit id stands in the mask; the last entry stands for
            slices without a unit.
    """
    # NO_UNIT is -1, so it indexes that last entry.
    return position[member.units]


def mask_layout(members: Iterable[Member], position: np.ndarray) -> MaskLayout:
    """Lays out the entries of the variables among `members` that can be trained.

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
        if member.role == "mean":
            continue
        index = mask_index(member, position)
        key = (id(member.layer), index.tobytes())
        if key not in starts:
            starts[key] = total
            units.append(index)
            total += len(index)
        kind = (len(member.variable.shape) - 1 - member.axis, member.variable.dtype)
        kinds.setdefault(kind, []).append((member.variable, starts[key], len(index)))
    flat = np.concatenate(units) if units else np.zeros(0, np.int64)
    return MaskLayout(
        flat.astype(np.int32),
        tuple(
            _pieces(trailing, dtype, variables, total)
            for (trailing, dtype), variables in kinds.items()
        ),
    )


def _pieces(
    trailing: int,
    dtype: str,
    variables: list[tuple[keras.Variable, int, int]],
    total: int,
) -> Pieces:
    ranges = sorted({(start, size) for _, start, size in variables})
    number = {start: number for number, (start, _) in enumerate(ranges)}
    entries = np.concatenate([np.arange(start, start + size) for start, size in ranges])
    return Pieces(
        trailing,
        dtype,
        None if len(entries) == total else entries.astype(np.int32),
        tuple(size for _, size in ranges),
        tuple((variable, number[start]) for variable, start, _ in variables),
    )
