"""Random numbers that depend on nothing but a seed, a step and a place.

Every replica, every restart and every backend draws the same, bit for bit: there is no
state, and only integer arithmetic modulo 2^32, which is exact everywhere.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_MODULUS = 2**32
# Odd, and so one-to-one modulo 2^32; the first is 2^32 over the golden ratio.
_PLACE, _STEP, _SEED = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35


def uniform(seed: Any, step: Any, count: int) -> Any:
    """Numbers that are uniform in [0, 1), each a multiple of 2^-24.

    Seed and step are mixed to a key, and the key with the number of each place. The
    mixing is C. Wellons' `lowbias32` ("Prospecting for Hash Functions", 2018), whose
    every input bit changes every output bit with a probability close to 1/2.

    Args:
        seed: an integer scalar.
        step: an integer scalar.
        count: how many numbers.

    Returns:
        A float32 tensor, shape `(count,)`.
    """
    key = _mixed(_sum(_product(_word(seed), _SEED), _product(_word(step), _STEP)))
    # Constants, so they are multiplied here and not in every step.
    places = np.arange(count, dtype=np.uint32) * np.uint32(_PLACE)
    bits = _mixed(_sum(key, _word(places)))
    # float32 holds 24 bits exactly.
    high = keras.ops.right_shift(bits, 8)
    return keras.ops.cast(high, "float32") * np.float32(2.0**-24)


def _mixed(word: Any) -> Any:
    ops = keras.ops
    word = ops.bitwise_xor(word, ops.right_shift(word, 16))
    word = _product(word, 0x7FEB352D)
    word = ops.bitwise_xor(word, ops.right_shift(word, 15))
    word = _product(word, 0x846CA68B)
    return ops.bitwise_xor(word, ops.right_shift(word, 16))


def _word(value: Any) -> Any:
    """A value modulo 2^32, in 32 bits without sign where the backend has them."""
    return _remainder(keras.ops.cast(value, "uint32"))


def _product(word: Any, factor: int) -> Any:
    return _remainder(word * _word(np.uint32(factor)))


def _sum(word: Any, other: Any) -> Any:
    return _remainder(word + other)


def _remainder(value: Any) -> Any:
    # PyTorch has no uint32. Keras takes int64 there, whose low half is just as right.
    if keras.backend.standardize_dtype(value.dtype) == "uint32":
        return value
    return keras.ops.bitwise_and(value, _MODULUS - 1)
