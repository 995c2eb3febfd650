"""Batches as NumPy arrays from all that `fit` takes, on the backend in use."""

import importlib.util

import keras
import numpy as np
import pytest

from pgmpf_tf.backends.data import batches

X = np.arange(140, dtype=np.float32).reshape(70, 2)
Y = np.arange(70, dtype=np.int32)


class Batches(keras.utils.PyDataset):
    """Three batches, or any number of them."""

    def __init__(self, count, **options):
        super().__init__(**options)
        self.count = count
        self.begun = self.ended = 0

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        part = slice(32 * index, 32 * (index + 1))
        return X[part], Y[part]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def generator():
    for start in (0, 32, 64):
        yield X[start : start + 32], Y[start : start + 32]


def dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(32)


def loader():
    data = pytest.importorskip("torch.utils.data")
    pairs = [(X[i], Y[i]) for i in range(70)]
    return data.DataLoader(pairs, batch_size=32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X, Y),
        lambda: (keras.ops.convert_to_tensor(X), keras.ops.convert_to_tensor(Y)),
        lambda: dataset(X, Y),
        lambda: Batches(3),
        lambda: Batches(3, workers=2),
        generator,
        loader,
    ],
)
def test_all_that_fit_takes(make):
    found = list(batches("data", make()))
    assert len(found) == 3
    for part, (x, y, weights) in enumerate(found):
        assert isinstance(x, np.ndarray)
        assert isinstance(y, np.ndarray)
        assert weights is None
        np.testing.assert_array_equal(x, X[32 * part : 32 * part + 32])
        np.testing.assert_array_equal(y, Y[32 * part : 32 * part + 32])


def test_structures_weights_and_what_is_not_there():
    weights = np.linspace(0, 1, 70, dtype=np.float32)
    for data in (({"a": X, "b": X}, None, weights), {"a": X, "b": X}):
        found = list(batches("data", data))
        assert [len(x["a"]) for x, _, _ in found] == [32, 32, 6]
        assert all(y is None for _, y, _ in found)
    (_, _, last), *_ = batches("data", (X, Y, weights), 1)
    np.testing.assert_array_equal(last, weights[:32])


def test_a_limit_and_the_ends_of_an_epoch():
    data = Batches(None)
    assert len(list(batches("data", data, 2))) == 2
    assert (data.begun, data.ended) == (1, 1)
    # Also if the caller stops early.
    for _ in batches("data", data, 2):
        break
    assert data.begun == data.ended == 2


def test_what_never_ends_needs_a_limit():
    endless = [lambda: Batches(None)]
    if importlib.util.find_spec("tensorflow"):
        endless.append(lambda: dataset(X).repeat())
    for make in endless:
        with pytest.raises(ValueError, match=r"`images` never ends.*Received: images"):
            list(batches("images", make()))
        assert len(list(batches("images", make(), 4))) == 4


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (3, TypeError),
        (None, TypeError),
        ("text", TypeError),
        (iter(()), ValueError),
        (object(), ValueError),
    ],
)
def test_other_data_are_refused(data, error):
    with pytest.raises(error, match=r"`images` must be what `fit` takes.*Received"):
        list(batches("images", data))


def test_empty_data_are_refused():
    with pytest.raises(ValueError, match="`images` must hold at least one batch"):
        list(batches("images", X[:0]))
