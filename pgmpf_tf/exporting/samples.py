"""Inputs to calibrate and to verify on: from whatever a user has, or random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.signature import Arrays, Input, Runner, Signature


def collect(argument: str, data: Any, inputs: Sequence[Input], limit: int) -> Arrays:
    """The first `limit` samples of `data`, checked against the model's inputs.

    Args:
        argument: the name of the caller's argument, for messages.
        data: an array; a dictionary of arrays by input name or (for a model of
            several inputs) a list of arrays; a `tf.data.Dataset`, an iterable, or a
            function that returns one, of batches of those; a tuple is taken as
            `(inputs, targets, ...)`, as Keras does.
        inputs: the inputs of the model.
        limit: number of samples to take at most.

    Raises:
        TypeError: `data` is none of these, or its dtype does not fit.
        ValueError: no sample, a missing input, or a shape that does not fit.
    """
    chunks: list[list[np.ndarray]] = []
    count = 0
    for batch in _batches(argument, data, inputs):
        arrays = _check(argument, batch, inputs, limit - count)
        chunks.append(arrays)
        count += len(arrays[0])
        if count >= limit:
            break
    if count == 0:
        raise ValueError(f"`{argument}` must hold at least one sample. Received: none")
    joined = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    return {port.name: array for port, array in zip(inputs, joined, strict=True)}


def draw(inputs: Sequence[Input], count: int) -> Arrays:
    """Random samples: normal numbers, or 0 and 1 where the input takes integers.

    Raises:
        ValueError: an input has an axis of unknown size besides the batch.
    """
    generator = np.random.default_rng(0)
    samples: dict[str, np.ndarray] = {}
    for port in inputs:
        shape = [count, *(size for size in port.shape[1:] if size is not None)]
        if len(shape) < len(port.shape):
            raise ValueError(
                "`verification_data` must be given for a model with inputs of unknown "
                f"size. Received: input {port.keys[0]!r} of shape {port.shape}"
            )
        if "float" in port.dtype:
            samples[port.name] = generator.standard_normal(shape).astype(port.dtype)
        else:
            samples[port.name] = generator.integers(0, 2, shape).astype(port.dtype)
    return samples


def run_in_batches(
    runner: Runner, samples: Arrays, signature: Signature
) -> dict[str, np.ndarray]:
    """The outputs for all samples, batch by batch.

    With a batch size that may vary the last batch is smaller as a rule, so that a
    batch size which in truth is fixed does not go unnoticed.
    """
    results = []
    for batch in in_batches(samples, signature.batch_size or 8):
        whole = fill(batch, signature.batch_size or size(batch))
        outputs = runner(whole)
        results.append({name: array[: size(batch)] for name, array in outputs.items()})
    return {
        name: np.concatenate([result[name] for result in results])
        for name in results[0]
    }


def size(samples: Arrays) -> int:
    """The number of samples."""
    return len(next(iter(samples.values())))


def in_batches(samples: Arrays, count: int) -> Iterator[Arrays]:
    """Batches of `count` samples; the last one may have fewer."""
    for start in range(0, size(samples), count):
        yield {name: array[start : start + count] for name, array in samples.items()}


def fill(samples: Arrays, count: int) -> Arrays:
    """The first `count` samples; the last one is repeated where there are fewer."""
    chosen = np.minimum(np.arange(count), size(samples) - 1)
    return {name: array[chosen] for name, array in samples.items()}


def hold_out(samples: Arrays, every: int) -> tuple[Arrays, Arrays]:
    """Two parts of the samples: the others, and one of `every`.

    They are taken in between, since data may be sorted.
    """
    held = np.arange(size(samples)) % every == every - 1
    return (
        {name: array[~held] for name, array in samples.items()},
        {name: array[held] for name, array in samples.items()},
    )


def _batches(argument: str, data: Any, inputs: Sequence[Input]) -> Iterator[Any]:
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    inputs_in_a_list = (
        isinstance(data, list) and len(inputs) > 1 and len(data) == len(inputs)
    )
    if isinstance(data, (dict, tuple)) or inputs_in_a_list or _is_array(data):
        return iter([data])
    if callable(data):
        data = data()
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return iter(data)
    raise TypeError(
        f"`{argument}` must be an array, a tf.data.Dataset, an iterable of batches or "
        f"a function that returns one. {received(argument, data)}"
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or keras.ops.is_tensor(value)


def _check(
    argument: str, batch: Any, inputs: Sequence[Input], limit: int
) -> list[np.ndarray]:
    """The inputs of one batch in order, at most `limit` samples."""
    given = batch[0] if isinstance(batch, tuple) and batch else batch
    if isinstance(given, dict):
        leaves = [_entry(argument, given, port) for port in inputs]
    else:
        leaves = tree.flatten(given)
        if len(leaves) != len(inputs):
            raise ValueError(
                f"`{argument}` must have {len(inputs)} arrays, one per input of the "
                f"model. Received: {len(leaves)}"
            )
    arrays = [
        _convert(argument, leaf, port, limit)
        for leaf, port in zip(leaves, inputs, strict=True)
    ]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(
            f"`{argument}` must have as many samples for each input. Received: "
            f"{[len(array) for array in arrays]}"
        )
    return arrays


def _entry(argument: str, arrays: Mapping[str, Any], port: Input) -> Any:
    for key in (*port.keys, port.name):
        if key in arrays:
            return arrays[key]
    raise ValueError(
        f"`{argument}` must have an array for every input of the model. Received: "
        f"{argument} with the keys {sorted(arrays)}, without {port.keys[0]!r}"
    )


def _convert(argument: str, leaf: Any, port: Input, limit: int) -> np.ndarray:
    array = np.asarray(leaf[:limit] if _is_array(leaf) and leaf.shape else leaf)
    fits = array.ndim == len(port.shape) and all(
        wanted in (None, got)
        for wanted, got in zip(port.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"`{argument}` must have the shape {(None, *port.shape[1:])} for the input "
            f"{port.keys[0]!r}, batch first. Received: shape {array.shape}"
        )
    if not np.can_cast(array.dtype, port.dtype, "same_kind"):
        raise TypeError(
            f"`{argument}` must have a dtype that becomes {port.dtype!r} without loss "
            f"of kind, for the input {port.keys[0]!r}. Received: dtype {array.dtype}"
        )
    return array.astype(port.dtype)
