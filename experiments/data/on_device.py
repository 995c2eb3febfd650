"""A data set in the memory of an accelerator, augmented there: for JAX.

The network waits for nothing but itself: a step's images are chosen, cropped, mirrored
and cut out by one compiled function. What it draws follows from the seed, the epoch and
the step, so that training that starts at epoch 7 sees what an uninterrupted one sees
from there. (The draws are JAX' own, and so not those of the tf.data pipeline.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import keras
from jax import numpy as jnp

from experiments.data.datasets import Data
from experiments.data.preprocessing import Preprocessing

Batch = tuple[jax.Array, jax.Array]

_READ_AT_ONCE = 512


class OnDevice:
    """The training and validation images of a data set, in the device's memory.

    Args:
        data: the data set, whose images have one size.

    Raises:
        ValueError: if the images have no common size.
    """

    def __init__(self, data: Data) -> None:
        if data.preprocessing.resized_crop:
            raise ValueError(
                "`on_device` needs images of one size. Received: on_device=True with "
                f"the data set {data.name}"
            )
        self._preprocessing = data.preprocessing
        self._train: Batch = jax.device_put(data.arrays(data.train, _READ_AT_ONCE))
        self._validation: Batch = jax.device_put(
            data.arrays(data.validation, _READ_AT_ONCE)
        )

    def train_batches(
        self, batch_size: int, *, seed: int, epochs: int, first_epoch: int = 0
    ) -> Iterator[Batch]:
        """Shuffled and augmented batches; see `Data.train_batches`."""
        images, labels = self._train
        for epoch in range(first_epoch, epochs):
            key = jax.random.fold_in(jax.random.key(seed), epoch)
            order = jax.random.permutation(key, len(labels))
            for start in range(0, len(labels), batch_size):
                chosen = order[start : start + batch_size]
                step = jax.random.fold_in(key, start)
                yield _batch(self._preprocessing, images, labels, chosen, step)

    def validation_batches(self, batch_size: int) -> keras.utils.PyDataset:
        """The validation images in order, without augmentation."""
        return _InOrder(self._validation, batch_size)


class _InOrder(keras.utils.PyDataset):
    """Slices of arrays."""

    def __init__(self, arrays: Batch, batch_size: int) -> None:
        super().__init__()
        self._arrays, self._size = arrays, batch_size

    def __len__(self) -> int:
        return -(-len(self._arrays[1]) // self._size)

    def __getitem__(self, index: int) -> Batch:
        part = slice(index * self._size, (index + 1) * self._size)
        images, labels = self._arrays
        return images[part], labels[part]


@functools.partial(jax.jit, static_argnums=0)
def _batch(
    preprocessing: Preprocessing,
    images: jax.Array,
    labels: jax.Array,
    chosen: jax.Array,
    key: jax.Array,
) -> Batch:
    keys = jax.random.split(key, len(chosen))
    augment = jax.vmap(functools.partial(augmented, preprocessing))
    return augment(images[chosen], keys), labels[chosen]


def augmented(
    preprocessing: Preprocessing, image: jax.Array, key: jax.Array
) -> jax.Array:
    """One image as the network is trained on it.

    Args:
        preprocessing: how much is cropped, mirrored and cut out.
        image: shape `(height, width, channels)`, normalized.
        key: decides all of it.
    """
    crop_key, flip_key, hole_key = jax.random.split(key, 3)
    if margin := preprocessing.padding:
        padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)))
        row, column = jax.random.randint(crop_key, (2,), 0, 2 * margin + 1)
        image = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
    if preprocessing.flip:
        mirrored = jax.random.bernoulli(flip_key)
        image = jnp.where(mirrored, image[:, ::-1], image)
    if size := preprocessing.cutout:
        height, width, _ = image.shape
        edges = jnp.array([height, width])
        top, left = jax.random.randint(hole_key, (2,), 0, edges) - size // 2
        rows, columns = jnp.arange(height), jnp.arange(width)
        inside_rows = (rows >= top) & (rows < top + size)
        inside_columns = (columns >= left) & (columns < left + size)
        hole = inside_rows[:, None] & inside_columns[None, :]
        image = jnp.where(hole[..., None], 0.0, image)
    return image
