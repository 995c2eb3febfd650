"""What times small models on a runtime, and how: they take turns."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from pgmpf_tf.exporting.signature import Signature

_ROUNDS = 11
# What a large network reads first has been driven out of the caches by the others.
_CALLS = 3


class Parts(abc.ABC):
    """Models as a runtime would run them as parts of a larger one.

    Args:
        precision: one of the class' `precisions`.
        threads: how many threads the runtime may use.

    Raises:
        ImportError: a package that the runtime needs is missing.

    Attributes:
        precisions: how it can hold numbers.
        input_step: of how many input channels its kernels take multiples in another
            way than what is none.
    """

    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    input_step: ClassVar[int] = 1

    @abc.abstractmethod
    def __init__(self, precision: str, threads: int) -> None:
        """Sets the runtime up."""

    @abc.abstractmethod
    def times(
        self, whole: Sequence[keras.Model], inside: Sequence[keras.Model] = ()
    ) -> tuple[list[float], list[float]]:
        """The milliseconds that inferences take, all of them in turns.

        Args:
            whole: models of one sample; their weights do not matter.
            inside: models as parts of a larger one. What calling the runtime costs, and
                what it does at the edges of a file only, is not counted. The time is 0
                for a model that is no operation of the runtime.

        Returns:
            The lower quartiles of some turns, of the one and of the other.

        Raises:
            ValueError: the runtime lacks an operation of theirs.
        """

    def milliseconds(self, models: Sequence[keras.Model]) -> list[float]:
        """What an inference of each model takes, see `times`."""
        return self.times(models)[0]


def in_turns(
    calls: Sequence[Callable[[], object]],
    clock: Callable[[], float],
    turn_seconds: float,
) -> list[float]:
    """The seconds that each call takes: the lower quartile of some turns.

    Args:
        calls: what to time. Other work on the machine hits all alike.
        clock: seconds since any time.
        turn_seconds: how long a turn of one call is, about; at least it is some calls.
    """

    def seconds(call: Callable[[], object], count: int) -> float:
        start = clock()
        for _ in range(count):
            call()
        return max(clock() - start, 1e-9)

    counts: list[int] = []
    for call in calls:
        call()
        counts.append(max(_CALLS, round(turn_seconds / seconds(call, 1))))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(_ROUNDS):
        for call, count, found in zip(calls, counts, times, strict=True):
            call()
            found.append(seconds(call, count) / count)
    return [float(np.quantile(found, 0.25)) for found in times]


def beyond_calling(seconds: float, calling: float) -> float:
    """Milliseconds of a part that is run: what it took alone, less calling it.

    Args:
        seconds: what a call of the part took.
        calling: what a call of nothing took in the same turns.
    """
    return 1e3 * max(seconds - calling, 1e-9)


def side_by_side(models: Sequence[keras.Model]) -> tuple[Signature, list[list[str]]]:
    """One model of several that share nothing, for what converts models one by one.

    Args:
        models: models of one sample.

    Returns:
        How the one model is called: inputs are `part3_0`, `part3_1`, ... for the model
        of number 3. And the names of the outputs of each model.
    """
    inputs: list[keras.KerasTensor] = []
    outputs: dict[str, keras.KerasTensor] = {}
    names: list[list[str]] = []
    for number, model in enumerate(models):
        fed = [
            keras.Input(
                batch_shape=(x.shape[0] or 1, *x.shape[1:]),
                dtype=x.dtype,
                name=f"part{number}_{place}",
            )
            for place, x in enumerate(model.inputs)
        ]
        made = _Alone(model, name=f"model{number}")(
            keras.tree.pack_sequence_as(model.input, fed)
        )
        found = {f"made{number}_{i}": y for i, y in enumerate(keras.tree.flatten(made))}
        inputs += fed
        outputs |= found
        names.append([*found])
    return Signature.of(keras.Model(inputs, outputs)), names


class _Alone(keras.layers.Layer):
    """A model under a name of its own: several may be called the same."""

    def __init__(self, model: keras.Model, name: str) -> None:
        super().__init__(name=name)
        self._model = model

    def call(self, x: Any) -> Any:
        """What the model gives."""
        return self._model(x, training=False)


def any_numbers(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array to call a model on; integers are zeros, as they may be indices."""
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).normal(size=shape).astype(dtype)
