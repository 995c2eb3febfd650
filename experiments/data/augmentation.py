"""Random and fixed image transforms, as pure functions of image and seed.

An image is a float32 tensor `(height, width, channels)`; a seed is an int32 tensor of
shape `(2,)`, and equal seeds give equal results.
"""

from __future__ import annotations

import tensorflow as tf


def crop_with_padding(image: tf.Tensor, seed: tf.Tensor, padding: int) -> tf.Tensor:
    """A crop of the image's own size out of the image padded with zeros."""
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    return tf.image.stateless_random_crop(padded, tf.shape(image), seed)


def cutout(image: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Sets a square to zero; its center is anywhere in the image.

    Near a border a part of the square falls outside (DeVries and Taylor 2017).

    Args:
        image: the image.
        seed: the seed.
        size: edge of the square in pixels.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    center = tf.random.stateless_uniform([2], seed)
    top = tf.cast(center[0] * tf.cast(height, tf.float32), tf.int32) - size // 2
    left = tf.cast(center[1] * tf.cast(width, tf.float32), tf.int32) - size // 2
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (
        (rows >= top) & (rows < top + size) & (columns >= left)
        & (columns < left + size)
    )  # fmt: skip
    return tf.where(inside, tf.zeros_like(image), image)


def random_resized_crop(image: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """A random part (8 to 100 % of the area, aspect 3:4 to 4:3), resized to a square.

    Args:
        image: the image, of any height and width.
        seed: the seed.
        size: edge of the result in pixels.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
    )
    return tf.image.resize(tf.slice(image, begin, extent), (size, size))


def resize_and_center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The shorter edge to `size * 256 / 224`, then the middle square of `size`."""
    shape = tf.shape(image)[:2]
    short = round(size * 256 / 224)
    scale = short / tf.reduce_min(shape)
    resized = tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32)
    image = tf.image.resize(image, tf.maximum(resized, short))
    return tf.image.resize_with_crop_or_pad(image, size, size)
