"""Samples without labels: from a folder of images, from a file, or as `export`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import check_integer, check_sequence, received
from pgmpf_tf.exporting import samples
from pgmpf_tf.exporting.signature import Arrays, Input

MOST_SAMPLES = 20_000
MOST_BYTES = 2**30
"""Of what is held in memory."""


@dataclass(frozen=True)
class Parts:
    """Samples for three purposes, none in two of them.

    Attributes:
        training: to measure on and to mend with.
        validation: to tell when mending is best.
        held_out: to say in the end how good the small network is.
    """

    training: Arrays
    validation: Arrays
    held_out: Arrays


def is_folder(data: Any) -> bool:
    """Whether data are the path of a folder, of images then."""
    return isinstance(data, (str, os.PathLike)) and Path(data).is_dir()


def check_image_size(image_size: Any, data: Any) -> tuple[int, int] | None:
    """A height and a width as integers, for a folder of images.

    Raises:
        TypeError: it is no sequence of integers.
        ValueError: it is not two of them, or the data are no folder.
    """
    if image_size is None:
        return None
    sizes = [
        check_integer(f"image_size[{place}]", size, 1)
        for place, size in enumerate(check_sequence("image_size", image_size, "ints"))
    ]
    if len(sizes) != 2 or not is_folder(data):
        raise ValueError(
            "`image_size` must be a height and a width, and goes with a folder of "
            f"images. {received('image_size', image_size)}"
        )
    return sizes[0], sizes[1]


def read(
    data: Any,
    inputs: Sequence[Input],
    seed: int,
    image_size: tuple[int, int] | None = None,
) -> Arrays:
    """As many samples as fit, at most 20,000.

    Args:
        data: the path of a folder of images, which are read as
            `keras.utils.image_dataset_from_directory` does; of a `.npy` file, or of a
            `.npz` file with one array or one by the name of each input; or what
            `export` takes.
        inputs: the inputs of the model.
        seed: of the order in which images are taken.
        image_size: height and width of images from a folder, where the model takes any.

    Raises:
        FileNotFoundError: nothing is at the path.
        TypeError: `data` are of no usable type.
        ValueError: fewer than 10 samples, or samples that do not fit the model.
    """
    limit = max(10, min(MOST_SAMPLES, MOST_BYTES // _bytes(inputs)))
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {str(path)!r}")
        data = _images(path, inputs, seed, image_size) if path.is_dir() else _file(path)
    arrays = samples.collect("data", data, inputs, limit)
    if samples.size(arrays) < 10:
        raise ValueError(
            "`data` must hold at least 10 samples, some hundred rather. "
            f"{received('data', f'{samples.size(arrays)} samples')}"
        )
    return arrays


def split(arrays: Arrays, seed: int) -> Parts:
    """70 % for training, 10 % for validation, 20 % held out, at random."""
    count = samples.size(arrays)
    order = np.random.default_rng(seed).permutation(count)
    held, selected = math.ceil(0.2 * count), math.ceil(0.1 * count)
    chosen = np.split(order, [held, held + selected])

    def part(rows: np.ndarray) -> Arrays:
        return {name: array[rows] for name, array in arrays.items()}

    return Parts(part(chosen[2]), part(chosen[1]), part(chosen[0]))


def _bytes(inputs: Sequence[Input]) -> int:
    """Of one sample in float32."""
    return sum(4 * math.prod(size or 1 for size in port.shape[1:]) for port in inputs)


def _images(
    path: Path,
    inputs: Sequence[Input],
    seed: int,
    image_size: tuple[int, int] | None,
) -> Any:
    colors = {1: "grayscale", 3: "rgb", 4: "rgba"}
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[3] not in colors:
        raise ValueError(
            "`data` may be a folder of images for a model with one input of images, "
            f"channels last. Received: data={str(path)!r} for inputs of the shapes "
            f"{[port.shape for port in inputs]}"
        )
    size = _size(shape[1:3], image_size)
    try:
        return keras.utils.image_dataset_from_directory(
            path,
            labels=None,
            color_mode=colors[shape[3]],
            image_size=size,
            batch_size=32,
            shuffle=True,
            seed=seed,
            verbose=False,
        )
    except ValueError as error:
        raise ValueError(
            f"`data` must be a folder with images. {received('data', str(path))} "
            f"({error})"
        ) from error


def _size(
    own: tuple[int | None, ...], wanted: tuple[int, int] | None
) -> tuple[int, int]:
    """The height and width of images: the model's, or the wanted one if it has none."""
    fits = wanted is not None and all(
        size in (None, asked) for size, asked in zip(own, wanted, strict=True)
    )
    if wanted is None and None not in own:
        return own  # type: ignore[return-value]
    if wanted is None or not fits:
        raise ValueError(
            "`image_size` must be the height and width to which images are resized, "
            f"for a model that takes the size {own} (None: any). "
            f"{received('image_size', wanted)}"
        )
    return wanted


def _file(path: Path) -> Any:
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(
            "`data` must be a folder of images, or a .npy or .npz file. "
            f"{received('data', str(path))}"
        )
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = dict(loaded)
    return arrays.popitem()[1] if len(arrays) == 1 else arrays
