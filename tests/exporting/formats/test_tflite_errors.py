"""What each operation of a file of integers adds to the error."""

import io

import keras
import numpy as np
import pytest
from keras import layers
from rich.console import Console

from pgmpf_tf.exporting import export


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A network in which one layer is hard on eight bits: its filters differ widely."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="easy")(image)
    x = layers.Conv2D(8, 3, use_bias=False, name="hard")(x)
    model = keras.Model(image, layers.Flatten()(layers.ReLU()(x)))
    kernel = model.get_layer("hard").kernel
    kernel.assign(kernel * np.geomspace(1, 3000, 8))
    data = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")
    # Small channels disappear in steps that fit the large ones; that is the point.
    return export(
        model,
        tmp_path_factory.mktemp("out"),
        "tflite",
        quantize="int8",
        representative_data=data,
        min_agreement=0,
        tolerance=1,
        verbose=False,
    )


def test_errors_are_those_of_the_operations_in_order(report):
    found = {each.name: each for each in report["tflite"].layers}
    easy, hard = found["easy"], found["hard"]
    assert easy.operation == hard.operation == "CONV_2D"
    # Nothing comes before the first, so that all of its error is its own.
    assert easy.added == easy.relative_error > 0
    assert hard.added == pytest.approx(
        max(hard.relative_error - easy.relative_error, 0.0)
    )


def test_the_last_error_is_the_file_s(report):
    lite = report["tflite"]
    assert max(each.relative_error for each in lite.layers) == pytest.approx(
        lite.relative_error, rel=0.3
    )


def test_what_adds_most_comes_first_and_is_shown(report):
    rows = report["tflite"].layers
    assert [r.added for r in rows] == sorted((r.added for r in rows), reverse=True)
    console = Console(file=io.StringIO(), width=100)
    console.print(report)
    assert f"in {rows[0].name}" in console.file.getvalue()
    assert report.to_dict()["artifacts"][0]["layers"][0]["name"] == rows[0].name


def test_files_without_integers_have_none(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    assert export(model, tmp_path, "tflite", verbose=False)["tflite"].layers == ()
