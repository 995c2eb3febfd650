import numpy as np
import pytest
import tensorflow as tf

from experiments.data import augmentation

IMAGE = tf.constant(
    np.random.default_rng(0).uniform(1, 2, size=(9, 7, 2)).astype("float32")
)
SEEDS = [tf.constant([3, number]) for number in range(40)]


def windows(padded, height, width):
    rows = range(padded.shape[0] - height + 1)
    columns = range(padded.shape[1] - width + 1)
    return [padded[r : r + height, c : c + width] for r in rows for c in columns]


def test_a_padded_crop_is_a_window_of_the_padded_image():
    candidates = windows(np.pad(IMAGE, ((2, 2), (2, 2), (0, 0))), 9, 7)
    found = set()
    for seed in SEEDS:
        crop = augmentation.crop_with_padding(IMAGE, seed, 2).numpy()
        matches = [i for i, c in enumerate(candidates) if np.array_equal(c, crop)]
        assert len(matches) == 1
        found.update(matches)
    assert len(found) > 10


def test_cutout_zeroes_one_clipped_square_and_nothing_else():
    areas = set()
    for seed in SEEDS:
        result = augmentation.cutout(IMAGE, seed, 4).numpy()
        hole = (result == 0).all(axis=-1)
        np.testing.assert_array_equal(result[~hole], IMAGE.numpy()[~hole])
        rows, columns = np.nonzero(hole)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width
        assert 2 <= height <= 4
        assert 2 <= width <= 4
        areas.add(int(hole.sum()))
    assert 16 in areas
    assert len(areas) > 1


def test_a_resized_crop_is_a_random_square_of_the_images_pixels():
    results = [
        augmentation.random_resized_crop(IMAGE, seed, 5).numpy() for seed in SEEDS
    ]
    for result in results:
        assert result.shape == (5, 5, 2)
        assert result.min() >= IMAGE.numpy().min() - 1e-5
        assert result.max() <= IMAGE.numpy().max() + 1e-5
    assert len({result.tobytes() for result in results}) > 30


@pytest.mark.parametrize("shape", [(256, 256, 3), (300, 256, 3), (256, 345, 3)])
def test_the_center_crop_takes_the_middle(shape):
    image = np.random.default_rng(0).uniform(size=shape).astype("float32")
    crop = augmentation.resize_and_center_crop(tf.constant(image), 224).numpy()
    top, left = (shape[0] - 224) // 2, (shape[1] - 224) // 2
    np.testing.assert_allclose(crop, image[top : top + 224, left : left + 224])


@pytest.mark.parametrize("shape", [(512, 700, 3), (100, 64, 3), (33, 257, 3)])
def test_the_center_crop_scales_the_shorter_edge(shape):
    image = np.full(shape, 7, "float32")
    crop = augmentation.resize_and_center_crop(tf.constant(image), 48).numpy()
    np.testing.assert_allclose(crop, np.full((48, 48, 3), 7.0), rtol=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        lambda seed: augmentation.crop_with_padding(IMAGE, seed, 2),
        lambda seed: augmentation.cutout(IMAGE, seed, 4),
        lambda seed: augmentation.random_resized_crop(IMAGE, seed, 5),
    ],
)
def test_equal_seeds_give_equal_images(transform):
    np.testing.assert_array_equal(transform(SEEDS[0]), transform(SEEDS[0]))
    assert any(not np.array_equal(transform(SEEDS[0]), transform(s)) for s in SEEDS)
