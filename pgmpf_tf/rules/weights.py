"""How rules read weights: through a view that the caller passes down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array


class Weights:
    """The weights of a model: as they are, or with some slices taken for zero.

    ```python
    weights = Weights()
    weights(layer.bias)  # a NumPy array
    ```

    Args:
        zero: by `id` of a variable, axes and a bool array along each: True for a slice
            that is taken for zero.
        cache: what was computed of the weights as they are; views of one model, whose
            weights do not change meanwhile, may share it.
    """

    def __init__(
        self,
        zero: Mapping[int, Sequence[tuple[int, Array]]] | None = None,
        cache: dict[Any, Array] | None = None,
    ) -> None:
        self._zero = {} if zero is None else zero
        self._cache = {} if cache is None else cache
        self._connections: dict[Any, Array] = {}

    def __call__(self, variable: keras.Variable) -> Array:
        """The value of a variable. It is not to be written to."""
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if id(variable) not in self._zero:
            return values
        values = values.copy()  # on some backends they are the variable's own
        for axis, zero in self._zero[id(variable)]:
            np.moveaxis(values, axis, 0)[zero] = 0
        return values

    def connections(self, kernel: keras.Variable, axis_in: int, axis_out: int) -> Array:
        """Which slices along two axes of a kernel meet in a weight that is not zero.

        Args:
            kernel: the variable.
            axis_in: the first of the axes.
            axis_out: the second.

        Returns:
            bool, shape `(kernel.shape[axis_in], kernel.shape[axis_out])`.
        """
        rank = len(kernel.shape)
        axis_in, axis_out = axis_in % rank, axis_out % rank
        key = id(kernel), axis_in, axis_out
        if key not in self._connections:
            # This looks at every weight: once for all views of a model.
            if key not in self._cache:
                values = np.asarray(keras.ops.convert_to_numpy(kernel)) != 0
                values = np.moveaxis(values, (axis_in, axis_out), (-2, -1))
                self._cache[key] = values.any(axis=tuple(range(rank - 2)))
            self._connections[key] = self._without_zero(kernel, axis_in, axis_out)
        return self._connections[key]

    def _without_zero(
        self, kernel: keras.Variable, axis_in: int, axis_out: int
    ) -> Array:
        found = self._cache[id(kernel), axis_in, axis_out]
        if id(kernel) not in self._zero:
            return found
        zero = dict(self._zero[id(kernel)])
        if zero.keys() <= {axis_in, axis_out}:
            for axis, gone in zero.items():
                found = found & ~(gone if axis == axis_out else gone[:, None])
            return found
        values = np.moveaxis(self(kernel) != 0, (axis_in, axis_out), (-2, -1))
        return values.any(axis=tuple(range(values.ndim - 2)))


class ShapesOnly(Weights):
    """Arrays of the right shapes that hold nothing.

    They are enough for `Rule.rebuild` where only the sizes of its weights are wanted.
    """

    def __call__(self, variable: keras.Variable) -> Array:
        """Zeros in the shape of a variable."""
        return np.broadcast_to(np.int8(0), variable.shape)


def evaluate(function: Callable[[Any], Any], values: Array) -> Array:
    """Apply a pointwise function where a value is known; NaN elsewhere."""
    result = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        points, back = np.unique(values[known], return_inverse=True)
        answers = function(keras.ops.convert_to_tensor(points[None].astype("float32")))
        found = np.asarray(keras.ops.convert_to_numpy(answers))[0].astype("float64")
        found[~np.isfinite(found)] = np.nan  # 1 / 0, say: nothing to count on
        result[known] = found[back]
    return result
