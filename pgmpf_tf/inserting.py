"""Operations that compaction inserts between those that a model has."""

from __future__ import annotations

import keras
import numpy as np

from pgmpf_tf.channels.arrays import Array, Shape


class Inserting:
    """Makes operations of names that are free.

    Args:
        deep: insert few operations rather than fast ones.

    Attributes:
        names: the names that are taken.
        named_operations: the operations that were named, by name.
        reference: a tensor that has the batch as its first axis.
    """

    reference: keras.KerasTensor

    def __init__(self, deep: bool) -> None:
        self.deep = deep
        self.names: set[str] = set()
        self.named_operations: dict[str, keras.Operation] = {}
        self._zeros: dict[tuple[Shape, str], keras.KerasTensor] = {}

    def unique(self, name: str) -> str:
        """The name with a number that makes it unique, which is taken then."""
        number = 1
        while f"{name}_{number}" in self.names:
            number += 1
        self.names.add(f"{name}_{number}")
        return f"{name}_{number}"

    def zeros(self, shape: Shape, dtype: str) -> keras.KerasTensor:
        """Zeros, made of an input of the model; see `pgmpf_tf.rules.Builder`."""
        if (shape, dtype) not in self._zeros:
            self._zeros[shape, dtype] = self._made_zeros(shape, dtype)
        return self._zeros[shape, dtype]

    def _made_zeros(self, shape: Shape, dtype: str) -> keras.KerasTensor:
        x = self.reference
        name = x._keras_history.operation.name

        def named(x: keras.KerasTensor) -> keras.KerasTensor:
            return self.named(x, f"{name}_zeros")

        if shape in ((None,), (1,)):
            rank = len(x.shape)
            first = slice(None) if shape == (None,) else slice(0, 1)
            x = named(x[(first, *[0] * (rank - 1))])
            if shape == (1,):
                x = named(keras.ops.reshape(x, shape))  # now Keras knows it, too
            return named(keras.ops.zeros_like(x, dtype=dtype))
        x = self.zeros((shape[:1] if None in shape else (1,)), dtype)
        if None in shape:
            return named(keras.ops.reshape(x, [-1] + [1] * (len(shape) - 1)))
        x = named(keras.ops.reshape(x, [1] * len(shape)))
        return named(keras.ops.broadcast_to(x, shape))

    def gather(
        self, value: keras.KerasTensor, axis: int, numbers: Array
    ) -> keras.KerasTensor:
        """Channels `numbers` along an axis, with zeros where one is -1.

        A gather along the first axis copies whole planes: transposed, it is several
        times faster in TFLite than one along the last (and the padding stays in
        XNNPACK). Channels in one run need only the padding.
        """
        width = value.shape[axis]
        rank = len(value.shape)
        name = value._keras_history.operation.name

        def pad(
            x: keras.KerasTensor, at: int, pair: tuple[int, int]
        ) -> keras.KerasTensor:
            widths = [(0, 0)] * rank
            widths[at] = pair
            return self.named(keras.ops.pad(x, widths), f"{name}_pad")

        before = int(np.argmax(numbers == 0))
        after = len(numbers) - before - width
        if np.array_equal(numbers[before : before + width], np.arange(width)) and (
            (numbers >= 0).sum() == width
        ):
            return pad(value, axis, (before, after))
        places = [int(n) if n >= 0 else width for n in numbers]
        if self.deep:
            padded = pad(value, axis, (0, 1)) if (numbers < 0).any() else value
            taken = keras.ops.take(padded, places, axis=axis)
            return self.named(taken, f"{name}_take")
        order = [axis, *(a for a in range(rank) if a != axis)]
        back = [int(a) for a in np.argsort(order)]
        moved = self.named(keras.ops.transpose(value, order), f"{name}_transpose")
        if (numbers < 0).any():
            moved = pad(moved, 0, (0, 1))
        taken = self.named(keras.ops.take(moved, places, axis=0), f"{name}_take")
        return self.named(keras.ops.transpose(taken, back), f"{name}_transpose")

    def named(self, value: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Give the operation that made a tensor a name that is free in this model."""
        operation = value._keras_history.operation
        operation.name = self.unique(name)
        self.named_operations[operation.name] = operation
        return value
