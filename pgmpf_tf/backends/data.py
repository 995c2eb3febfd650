"""Batches of whatever `fit` takes, as NumPy arrays: the same on every backend."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.trainers import data_adapters

from pgmpf_tf._checks import received

_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def batches(
    argument: str, data: Any, limit: int | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """The batches of whatever `fit` takes, by Keras' own adapters.

    Args:
        argument: the name of the caller's argument, for messages.
        data: arrays (32 samples make a batch), `(x, y)` or `(x, y, sample_weight)`, a
            `tf.data.Dataset`, a `torch.utils.data.DataLoader`, a `PyDataset` or a
            generator.
        limit: how many batches at most; all if None.

    Yields:
        Inputs, targets and sample weights of a batch, NumPy arrays or structures of
        these; None for what is not there.

    Raises:
        TypeError: if `data` is None, a text or a number.
        ValueError: if the data are none of these or empty, or never end and there is
            no limit.
    """
    check_data(argument, data)
    parts = data if isinstance(data, tuple) else (data,)
    try:
        adapter = data_adapters.get_data_adapter(*parts)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be what `fit` takes, with one batch at least: arrays, "
            "(x, y), a tf.data.Dataset, a torch DataLoader, a PyDataset or a generator "
            f"of tuples. Received: {argument} of type {type(data).__name__}: {error}"
        ) from error
    known = [n for n in (limit, adapter.num_batches) if n is not None]
    if not known and _never_ends(data):
        raise ValueError(
            f"`{argument}` never ends: say how many batches to take of it. "
            f"Received: {argument} of type {type(data).__name__}"
        )
    count = 0
    adapter.on_epoch_begin()
    try:
        for batch in itertools.islice(
            adapter.get_numpy_iterator(), min(known, default=None)
        ):
            count += 1
            yield keras.utils.unpack_x_y_sample_weight(batch)
    finally:
        adapter.on_epoch_end()
    if not count:
        raise ValueError(f"`{argument}` must hold at least one batch. Received: none")


def check_data(argument: str, data: Any) -> None:
    """Raises TypeError for what cannot be data: None, a text or a number."""
    if data is None or isinstance(data, (str, bytes, numbers.Number)):
        raise TypeError(
            f"`{argument}` must be what `fit` takes: arrays, (x, y), a "
            "tf.data.Dataset, a torch DataLoader or a PyDataset. "
            f"{received(argument, data)}"
        )


def _never_ends(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    if data_adapters.is_tf_dataset(data):
        return int(data.cardinality()) == _INFINITE
    return False
