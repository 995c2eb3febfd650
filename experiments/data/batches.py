"""Batches of images that are held as arrays."""

from __future__ import annotations

import keras
import numpy as np


class Augmented(keras.utils.PyDataset):
    """Shuffled batches, mirrored and moved by up to an eighth at random.

    An epoch's choices follow from the seed and its number.

    Args:
        x, y: images and labels.
        batch_size: images of a batch; the last one may have fewer.
        seed: of all choices.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int):
        super().__init__()
        self.y, self.batch_size = y, batch_size
        self.moves = x.shape[1] // 8
        border = (self.moves, self.moves)
        self.padded = np.pad(x, ((0, 0), border, border, (0, 0)))
        self.size = x.shape[1]
        self.draws = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.y) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        images = []
        for number, (top, left), mirrored in zip(
            self.order[part], self.places[part], self.mirrored[part], strict=True
        ):
            rows, columns = slice(top, top + self.size), slice(left, left + self.size)
            image = self.padded[number, rows, columns]
            images.append(image[:, ::-1] if mirrored else image)
        return np.stack(images), self.y[self.order[part]]

    def on_epoch_end(self) -> None:
        """Draws for the next epoch."""
        count = len(self.y)
        self.order = self.draws.permutation(count)
        self.places = self.draws.integers(0, 2 * self.moves + 1, (count, 2))
        self.mirrored = self.draws.integers(0, 2, count, dtype=bool)
