"""Images in the device's memory: JAX beside TensorFlow, see tests/test_backends.py."""

import dataclasses

import keras
import numpy as np
import pytest

from experiments.data import datasets
from experiments.data.preprocessing import Preprocessing

if keras.backend.backend() != "jax":
    pytest.skip("works on JAX", allow_module_level=True)
jax = pytest.importorskip("jax")
on_device = pytest.importorskip("experiments.data.on_device")

IMAGE = np.random.default_rng(0).uniform(1, 2, (9, 7, 2)).astype("float32")
KEYS = jax.random.split(jax.random.key(3), 60)
PLAIN = Preprocessing((0.0,), (1.0,), 9)


def results(**changes):
    preprocessing = dataclasses.replace(PLAIN, **changes)
    return [np.asarray(on_device.augmented(preprocessing, IMAGE, k)) for k in KEYS]


def test_nothing_is_changed_unless_asked_for():
    for image in results():
        np.testing.assert_array_equal(image, IMAGE)


def test_a_crop_is_a_window_of_the_padded_image_mirrored_or_not():
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    windows = [padded[r : r + 9, c : c + 7] for r in range(5) for c in range(5)]
    candidates = windows + [window[:, ::-1] for window in windows]
    found = set()
    for image in results(padding=2, flip=True):
        (match,) = (i for i, c in enumerate(candidates) if np.array_equal(c, image))
        found.add(match)
    assert len(found) > 25
    assert min(found) < len(windows) <= max(found)


def test_a_hole_is_one_clipped_square_and_nothing_else():
    areas = set()
    for image in results(cutout=4):
        hole = (image == 0).all(axis=-1)
        np.testing.assert_array_equal(image[~hole], IMAGE[~hole])
        rows, columns = np.nonzero(hole)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width
        assert 2 <= height <= 4
        assert 2 <= width <= 4
        areas.add(int(hole.sum()))
    assert 16 in areas
    assert len(areas) > 1


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", train_examples=100)


def batches(source, **options):
    return [
        tuple(map(np.asarray, batch))
        for batch in source.train_batches(32, seed=1, **options)
    ]


def test_an_epoch_has_each_image_once_in_another_order(digits):
    found = batches(on_device.OnDevice(digits), epochs=2)
    assert [len(labels) for _, labels in found] == 2 * [32, 32, 32, 4]
    images, labels = digits.arrays(digits.train, 50)
    for epoch in (found[:4], found[4:]):
        shuffled = np.concatenate([images for images, _ in epoch])
        place = [np.argmin(np.abs(images - x).sum((1, 2, 3))) for x in shuffled]
        assert sorted(place) == list(range(100))
        assert place != sorted(place)
        np.testing.assert_array_equal(images[place], shuffled)
        np.testing.assert_array_equal(
            labels[place], np.concatenate([labels for _, labels in epoch])
        )
    assert not np.array_equal(found[0][0], found[4][0])


def test_a_run_that_goes_on_sees_what_the_whole_one_sees():
    data = datasets.load("digits", train_examples=100)
    cut = dataclasses.replace(data.preprocessing, padding=1, flip=True, cutout=2)
    source = on_device.OnDevice(dataclasses.replace(data, preprocessing=cut))
    whole, rest = batches(source, epochs=3), batches(source, epochs=3, first_epoch=2)
    for (image, label), (other, known) in zip(whole[8:], rest, strict=True):
        np.testing.assert_array_equal(image, other)
        np.testing.assert_array_equal(label, known)


def test_validation_is_in_order(digits):
    found = on_device.OnDevice(digits).validation_batches(64)
    parts = [found[index] for index in range(len(found))]
    images, labels = digits.arrays(digits.validation, 50)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), images)
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), labels)


def test_images_without_a_common_size_are_refused(digits):
    cropped = dataclasses.replace(digits.preprocessing, resized_crop=True)
    with pytest.raises(ValueError, match="`on_device` needs images of one size"):
        on_device.OnDevice(dataclasses.replace(digits, preprocessing=cropped))
