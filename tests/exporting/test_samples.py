"""Whatever holds the data, the same samples come out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf.exporting.samples import collect, draw, fill, hold_out, in_batches
from pgmpf_tf.exporting.signature import Input

IMAGE = Input("image", ("image",), (None, 4, 3), "float32")
TOKEN = Input("to_ken", ("to-ken",), (None, 2), "int32")
IMAGES = np.random.default_rng(0).normal(size=(7, 4, 3)).astype("float32")
TOKENS = np.arange(14).reshape(7, 2).astype("int32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(2 * index, 2 * index + 2)
        return IMAGES[part], TOKENS[part]


def batches(*arrays):
    for start in range(0, 7, 2):
        parts = tuple(array[start : start + 2] for array in arrays)
        yield parts if len(parts) > 1 else parts[0]


ONE_INPUT = {
    "array": lambda: IMAGES,
    "tensor": lambda: tf.constant(IMAGES),
    "inputs and targets": lambda: (IMAGES, TOKENS),
    "by name": lambda: {"image": IMAGES, "label": TOKENS},
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(IMAGES).batch(3),
    "dataset with targets": lambda: tf.data.Dataset.from_tensor_slices(
        (IMAGES, TOKENS)
    ).batch(2),
    "generator": lambda: batches(IMAGES),
    "generator with targets": lambda: batches(IMAGES, TOKENS),
    "function": lambda: lambda: batches(IMAGES),
    "list of batches": lambda: list(batches(IMAGES)),
    "lists of inputs": lambda: ([batch] for batch in batches(IMAGES)),
    "PyDataset": Batches,
}
TWO_INPUTS = {
    "list": lambda: [IMAGES, TOKENS],
    "by name": lambda: {"to-ken": TOKENS, "image": IMAGES},
    "inputs and targets": lambda: ([IMAGES, TOKENS], TOKENS),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(
        {"to-ken": TOKENS, "image": IMAGES}
    ).batch(3),
    "dataset with targets": lambda: tf.data.Dataset.from_tensor_slices(
        ((IMAGES, TOKENS), TOKENS)
    ).batch(3),
    "generator": lambda: ([x, y] for x, y in batches(IMAGES, TOKENS)),
}


@pytest.mark.parametrize("limit", [1, 4, 7, 100])
@pytest.mark.parametrize("form", ONE_INPUT)
def test_one_input(form, limit):
    samples = collect("data", ONE_INPUT[form](), [IMAGE], limit)
    np.testing.assert_array_equal(samples["image"], IMAGES[:limit])


@pytest.mark.parametrize("form", TWO_INPUTS)
def test_two_inputs(form):
    samples = collect("data", TWO_INPUTS[form](), [IMAGE, TOKEN], 5)
    np.testing.assert_array_equal(samples["image"], IMAGES[:5])
    np.testing.assert_array_equal(samples["to_ken"], TOKENS[:5])


def test_numbers_are_converted_as_keras_does_but_not_to_another_kind():
    samples = collect("data", (255 * IMAGES).astype("uint8"), [IMAGE], 7)
    assert samples["image"].dtype == "float32"
    assert (
        collect("data", TOKENS.astype("int64"), [TOKEN], 7)["to_ken"].dtype == "int32"
    )
    with pytest.raises(TypeError, match=r"'int32'.*'to-ken'.*float32"):
        collect("data", TOKENS.astype("float32"), [TOKEN], 7)


def test_inputs_must_have_as_many_samples():
    with pytest.raises(ValueError, match=r"as many samples.*\[7, 5\]"):
        collect("data", [IMAGES, TOKENS[:5]], [IMAGE, TOKEN], 9)


def test_random_samples_fit_the_ports():
    samples = draw([IMAGE, TOKEN], 50)
    assert samples["image"].shape == (50, 4, 3)
    assert samples["image"].dtype == "float32"
    assert set(np.unique(samples["to_ken"])) == {0, 1}


@given(st.integers(1, 9), st.integers(1, 9))
def test_batches_hold_every_sample_once_and_filling_repeats_the_last(count, step):
    samples = {"x": np.arange(count), "y": np.arange(2 * count).reshape(count, 2)}
    batches = list(in_batches(samples, step))
    for name, array in samples.items():
        parts = [batch[name] for batch in batches]
        np.testing.assert_array_equal(np.concatenate(parts), array)
    assert all(len(batch["x"]) == step for batch in batches[:-1])
    filled = fill(batches[-1], step)
    assert [len(array) for array in filled.values()] == [step, step]
    last = list(batches[-1]["x"])
    assert list(filled["x"]) == last + [last[-1]] * (step - len(last))


def test_what_is_held_out_lies_in_between():
    kept, held = hold_out({"x": np.arange(8)}, every=3)
    assert held["x"].tolist() == [2, 5]
    assert kept["x"].tolist() == [0, 1, 3, 4, 6, 7]
