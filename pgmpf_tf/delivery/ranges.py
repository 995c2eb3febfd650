"""In which range a network wants its pixels: found out, not guessed."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from pgmpf_tf._checks import check_choice, received
from pgmpf_tf.channels.graph import trace
from pgmpf_tf.delivery.copying import copy_of
from pgmpf_tf.training.recalibration import recalibrate

RANGES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0)}
"""By the name of a range the factor and the offset that make it of 0..255."""

_CLEAR = 2.0
"""How many times worse the second best range must fit."""


def find_range(
    model: keras.Model, images: np.ndarray, wanted: str | None
) -> tuple[str, str]:
    """The range that a network wants, and how that is known.

    A network that rescales its input itself wants 0..255. Else the statistics that its
    BatchNormalization layers remember of training are held against those that the
    images give in each range.

    Args:
        model: the network.
        images: `(count, height, width, channels)`, 0..255.
        wanted: what the user says, if anything.

    Returns:
        A key of `RANGES`, and a reason to show.

    Raises:
        ValueError: if `wanted` is no such key, or if nothing tells the range.
    """
    if wanted is not None:
        return check_choice("input_range", wanted, RANGES), "as asked for"
    if _rescales(model):
        return "0..255", "the network rescales its input itself"
    # Without remembered statistics, every range fits.
    fits = (
        dict.fromkeys(RANGES, 0.0)
        if not _norms(model)
        else {
            name: _misfit(model, factor * images + offset)
            for name, (factor, offset) in RANGES.items()
        }
    )
    best, second = sorted(fits, key=lambda name: fits[name])[:2]
    if not fits[second] > _CLEAR * fits[best]:
        raise ValueError(
            "`input_range` must be given: nothing in the network tells in which range "
            f"it wants its pixels. One of {', '.join(map(repr, RANGES))}. "
            f"{received('input_range', None)}"
        )
    return best, "its BatchNormalization statistics fit that range best"


def rescaled(images: np.ndarray, name: str) -> np.ndarray:
    """Images of 0..255 in another range."""
    factor, offset = RANGES[name]
    return (factor * images + offset).astype(images.dtype)


def _rescales(model: keras.Model) -> bool:
    graph = trace(model)
    first = {id(tensor) for tensor in graph.inputs}
    return any(
        isinstance(node.operation, (layers.Rescaling, layers.Normalization))
        for node in graph.nodes
        if any(id(tensor) in first for tensor in node.inputs)
    )


def _misfit(model: keras.Model, images: np.ndarray) -> float:
    """How far measured statistics are from the remembered ones."""
    other = copy_of(model)
    recalibrate(other, images.astype("float32"))
    total = 0.0
    for old, new in zip(_norms(model), _norms(other), strict=True):
        epsilon = old.epsilon
        means = [keras.ops.convert_to_numpy(x.moving_mean) for x in (old, new)]
        spreads = [
            keras.ops.convert_to_numpy(x.moving_variance) + epsilon for x in (old, new)
        ]
        distance = np.square(means[1] - means[0]) / spreads[0]
        total += float(np.mean(np.log1p(distance)))
        total += float(np.mean(np.abs(np.log(spreads[1] / spreads[0]))))
    return total


def _norms(model: keras.Model) -> list[layers.BatchNormalization]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, layers.BatchNormalization)
    ]
