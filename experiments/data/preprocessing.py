"""How the images of each data set become a network's input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from experiments.data import augmentation


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a data set become a network's input.

    Attributes:
        mean: mean of each channel over the training pixels, in the pixels' units.
        std: standard deviation of each channel, likewise.
        padding: random crops are taken out of the image padded by so many zeros.
        flip: whether images are mirrored at random.
        cutout: edge in pixels of the square set to zero; 0 for none.
        resized_crop: whether images have no common size: random resized crops for
            training, resize and center crop for testing.
        input_size: edge of the network's input in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    padding: int = 0
    flip: bool = False
    cutout: int = 0
    resized_crop: bool = False

    def resized(self, input_size: int) -> Preprocessing:
        """The same for images of another size: crops and holes shrink with them."""
        scale = input_size / self.input_size
        return dataclasses.replace(
            self,
            input_size=input_size,
            padding=round(self.padding * scale),
            cutout=round(self.cutout * scale),
        )

    def train_image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """One augmented image; equal seeds give equal results."""
        image = self._pixels(image)
        seeds = tf.random.split(seed, 3)
        if self.resized_crop:
            image = augmentation.random_resized_crop(image, seeds[0], self.input_size)
        image = self._normalize(self._resize(image))
        if self.padding:
            image = augmentation.crop_with_padding(image, seeds[0], self.padding)
        if self.flip:
            image = tf.image.stateless_random_flip_left_right(image, seeds[1])
        if self.cutout:
            image = augmentation.cutout(image, seeds[2], self.cutout)
        return self._with_shape(image)

    def test_image(self, image: tf.Tensor) -> tf.Tensor:
        """One image as the network is tested on it."""
        image = self._pixels(image)
        if self.resized_crop:
            image = augmentation.resize_and_center_crop(image, self.input_size)
        return self._with_shape(self._normalize(self._resize(image)))

    def _pixels(self, image: tf.Tensor) -> tf.Tensor:
        if image.dtype == tf.string:
            image = tf.io.decode_image(image, len(self.mean), expand_animations=False)
        return tf.cast(image, tf.float32)

    def _resize(self, image: tf.Tensor) -> tf.Tensor:
        if image.shape[:2] != (self.input_size, self.input_size):
            image = tf.image.resize(image, (self.input_size, self.input_size))
        return image

    def _normalize(self, image: tf.Tensor) -> tf.Tensor:
        return (image - tf.constant(self.mean)) / tf.constant(self.std)

    def _with_shape(self, image: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(
            image, (self.input_size, self.input_size, len(self.mean))
        )


_PHOTOGRAPHS = Preprocessing(
    (123.675, 116.28, 103.53),
    (58.395, 57.12, 57.375),
    224,
    flip=True,
    resized_crop=True,
)
PREPROCESSING: Mapping[str, Preprocessing] = {
    "digits": Preprocessing((4.88,), (6.02,), 8),
    "fashion_mnist": Preprocessing((72.94,), (90.02,), 28, padding=2, flip=True),
    "cifar10": Preprocessing(
        (125.3, 123.0, 113.9), (63.0, 62.1, 66.7), 32, padding=4, flip=True, cutout=12
    ),
    "cifar100": Preprocessing(
        (129.3, 124.1, 112.4), (68.2, 65.4, 70.4), 32, padding=4, flip=True, cutout=6
    ),
    "imagenet2012": _PHOTOGRAPHS,
    "folder": _PHOTOGRAPHS,
}
"""By the name of the data set; means and deviations are in pixels of 0..255."""
