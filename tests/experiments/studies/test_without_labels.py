import json

import keras
import numpy as np
import pytest
from keras import layers

from experiments.studies import without_labels


def test_pieces_lie_in_the_photographs_and_are_not_enlarged():
    rows, columns = np.mgrid[:30, :40].astype("float32")
    ramps = np.stack([rows, columns, np.full_like(rows, 7.0)], axis=-1)
    (found, again) = (without_labels.pieces([ramps], 50, 8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert found.shape == (50, 8, 8, 3)
    np.testing.assert_allclose(found[..., 2], 7.0, rtol=1e-5)
    # A step of a piece is a pixel of the photograph, or more: 30 / 8 at most.
    for axis in (0, 1):
        steps = np.diff(found[..., axis], axis=1 + axis)
        assert steps.min() > 0.5
        assert steps[:, 1:-1].max() < 30 / 8 + 0.1
    assert (found[..., 0].max(), found[..., 1].max()) <= (29, 39)


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ImportError, match="pip install that one"):
        without_labels._needed("a_module_that_nobody_has", "that one")


@pytest.fixture
def trial(monkeypatch):
    """A network of our own in the place of others', and photographs of noise."""

    def build(size):
        image = keras.Input((size, size, 3), name="image")
        x = layers.Conv2D(8, 3, activation="relu")(image)
        x = layers.GlobalAveragePooling2D()(x)
        sides = [layers.Dense(2, name="kind")(x), layers.Dense(1, name="where")(x)]
        return keras.Model(image, sides, name="own")

    own = without_labels.Trial(build, without_labels._centered, 8, 40)
    monkeypatch.setitem(without_labels.TRIALS, "own", own)
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3))

    class Photographs:
        def __getattr__(self, name):
            return lambda: noise

    monkeypatch.setattr(without_labels, "_needed", lambda module, _: Photographs())
    return own


def test_a_trial_is_a_record_and_two_rows(trial, tmp_path):
    record = without_labels.run("own", tmp_path, 0.0)
    assert record["macs"]["small"] <= 0.5 * record["macs"]["dense"]
    assert [each["name"] for each in record["unseen"]] == ["kind", "where"]
    table = without_labels.markdown([record])
    rows = [line for line in table.splitlines() if line.startswith("| own |")]
    assert len(rows) == 2
    (head,) = (line for line in table.splitlines() if line.startswith("| network |"))
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert "| own | where | - |" in rows[1]

    path = tmp_path / "own.json"
    path.write_text(json.dumps(record | {"samples": 123}), "utf-8")
    assert without_labels.run("own", tmp_path, 0.0)["samples"] == 123
    with pytest.raises(ValueError, match=r"other settings: {'minutes'"):
        without_labels.run("own", tmp_path, 1.0)
