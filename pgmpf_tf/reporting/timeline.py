"""One time line out of what one or more calls of `fit` returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.training.model import PrunedModel

History: TypeAlias = "keras.callbacks.History | Mapping[str, Sequence[float]]"
"""What `fit` returned, or a list of numbers per name."""


@dataclass(frozen=True)
class Timeline:
    """What happened over the epochs.

    Attributes:
        epochs: how many there were.
        starts: epochs that were over when each history after the first one began.
        series: from a name to a float array `(epochs,)`, NaN where there is no value.
        omitted: names whose values are not one number per epoch.
        masks: from a group to a bool array `(units, times)`, True for a unit that
            stays.
        masks_from: epochs that were over at the first of those times.
        model: the wrapped model that was trained, if it is known.
        fits: the arguments of the calls of `fit` that trained it, as far as known.
    """

    epochs: int = 0
    starts: tuple[int, ...] = ()
    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    omitted: tuple[str, ...] = ()
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    masks_from: int = 0
    model: PrunedModel | None = None
    fits: tuple[Mapping[str, int], ...] = ()


def timeline(history: History | Sequence[History] | None) -> Timeline:
    """Joins histories, in their order.

    Args:
        history: one or several of what `fit` returns, or of dictionaries from a name
            to a list with a number per epoch.

    Returns:
        The time line; an empty one for None.

    Raises:
        TypeError: if it is none of these.
        ValueError: if the masks are not those of one model.
    """
    if history is None:
        return Timeline()
    one = isinstance(history, (keras.callbacks.History, Mapping))
    given = [history] if one else history
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise _wrong_type("history", history)
    parts: list[Any] = [*given]
    lengths = [
        _epochs(part, "history" if one else f"history[{i}]")
        for i, part in enumerate(parts)
    ]
    starts = np.cumsum([0, *lengths])
    series, omitted = _join_series(parts, lengths)
    masks, masks_from = _join_masks(parts, starts)
    wrapped = [
        part for part in parts if isinstance(getattr(part, "model", None), PrunedModel)
    ]
    return Timeline(
        epochs=int(starts[-1]),
        starts=tuple(int(start) for start in starts[1:-1]),
        series=series,
        omitted=omitted,
        masks=masks,
        masks_from=masks_from,
        model=wrapped[-1].model if wrapped else None,
        fits=tuple(_arguments_of_fit(part) for part in wrapped if part.epoch),
    )


def times_returned(masks: np.ndarray) -> np.ndarray:
    """How often each unit came back after it had been masked.

    Args:
        masks: bool array `(units, times)`.

    Returns:
        Integers, shape `(units,)`.
    """
    return (masks[:, 1:] & ~masks[:, :-1]).sum(axis=1)


def _arguments_of_fit(history: keras.callbacks.History) -> dict[str, int]:
    known = history.params or {}
    arguments = {
        "epochs": known.get("epochs"),
        "initial_epoch": history.epoch[0] or None,
        "steps_per_epoch": known.get("steps"),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _wrong_type(name: str, value: Any) -> TypeError:
    return TypeError(
        f"`{name}` must be what `fit` returned, a dictionary from a name to a list of "
        f"numbers, or a list of these. {received(name, value)}"
    )


def _epochs(part: Any, name: str) -> int:
    """The number of epochs of one history, whose type is checked."""
    if isinstance(part, keras.callbacks.History):
        return len(part.epoch)
    if not isinstance(part, Mapping):
        raise _wrong_type(name, part)
    for key, values in part.items():
        if _numbers(values) is None:
            raise TypeError(
                f"`{name}[{key!r}]` must be a list with a number per epoch. "
                f"{received(f'{name}[{key!r}]', values)}"
            )
    return max(map(len, part.values()), default=0)


def _numbers(values: Any) -> np.ndarray | None:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.ndim == 1 else None


def _values(part: History) -> Mapping[str, Sequence[float]]:
    return part.history if isinstance(part, keras.callbacks.History) else part


def _join_series(
    parts: Sequence[History], lengths: Sequence[int]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    joined: dict[str, list[np.ndarray]] = {}
    omitted: dict[str, None] = {}
    for name in dict.fromkeys(name for part in parts for name in _values(part)):
        pieces = []
        for part, length in zip(parts, lengths, strict=True):
            values = _numbers(_values(part).get(name, np.full(length, np.nan)))
            # A metric of validations that were not in every epoch: nobody has noted
            # to which epochs its values belong.
            if values is None or len(values) != length:
                omitted[name] = None
            else:
                pieces.append(values)
        joined[name] = pieces
    series = {
        name: np.concatenate(pieces)
        for name, pieces in joined.items()
        if name not in omitted
    }
    return series, tuple(omitted)


def _join_masks(
    parts: Sequence[Any], starts: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """Masks by group; those before a call are those after the one before it."""
    recorded = [
        (start, part.masks)
        for start, part in zip(starts[:-1].tolist(), parts, strict=True)
        if getattr(part, "masks", None)
    ]
    if not recorded:
        return {}, 0
    entries = [*recorded[0][1]]
    sizes = {name: len(mask) for name, mask in entries[0].items()}
    for _, masks in recorded[1:]:
        if {name: len(mask) for name, mask in masks[0].items()} != sizes:
            raise ValueError(
                "`history` must hold the histories of one wrapped model. Received: "
                f"history with the groups {sorted(masks[0])} after {sorted(sizes)}"
            )
        entries += masks[1:]
    joined = {name: np.stack([entry[name] for entry in entries], 1) for name in sizes}
    return joined, recorded[0][0]
