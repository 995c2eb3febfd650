"""Every argument that cannot work is an error at once, and nothing is written."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from pgmpf_tf.exporting import export
from tests.exporting.networks import convnet, images


@pytest.fixture(scope="module")
def model():
    return convnet()


CASES = {
    "unknown format": ({"formats": "tfjs"}, ValueError, r"`formats`.*tfjs"),
    "no format": ({"formats": ()}, ValueError, "`formats`"),
    "formats that are no names": ({"formats": None}, TypeError, "formats=None"),
    "formats that are numbers": ({"formats": [1]}, TypeError, r"formats=\[1\]"),
    "quantize is no name": ({"quantize": 8}, TypeError, "`quantize`.*quantize=8"),
    "batch size of no number": ({"batch_size": "x"}, TypeError, "batch_size='x'"),
    "batch size of nothing": ({"batch_size": 0}, ValueError, "batch_size=0"),
    "batch size is a bool": ({"batch_size": True}, TypeError, "batch_size=True"),
    "integer io is no bool": ({"integer_io": 1}, TypeError, "integer_io=1"),
    "verbose is no bool": ({"verbose": "no"}, TypeError, "verbose='no'"),
    "tolerance of no number": ({"tolerance": "x"}, TypeError, "tolerance='x'"),
    "tolerance is NaN": ({"tolerance": np.nan}, ValueError, "tolerance=nan"),
    "agreement of no number": ({"min_agreement": "x"}, TypeError, "min_agreement='x'"),
    "unknown quantization": ({"quantize": "int4"}, ValueError, r"quantize.*'int4'"),
    "nothing to quantize": (
        {"quantize": "float16", "formats": "saved_model"},
        ValueError,
        "quantize.*'float16'",
    ),
    "int8 without data": (
        {"quantize": "int8"},
        ValueError,
        "representative_data.*int8",
    ),
    "integer io of floats": ({"integer_io": True}, ValueError, "integer_io"),
    "tolerance": ({"tolerance": -1.0}, ValueError, r"tolerance.*-1\.0"),
    "agreement": ({"min_agreement": 90}, ValueError, "min_agreement=90"),
    "wrong shape": (
        {"representative_data": images()[:, :4]},
        ValueError,
        r"representative_data.*\(None, 8, 8, 3\).*'image'.*\(16, 4, 8, 3\)",
    ),
    "no batch axis": (
        {"representative_data": images()[0]},
        ValueError,
        r"batch first.*\(8, 8, 3\)",
    ),
    "wrong dtype": (
        {"representative_data": images().astype("complex64")},
        TypeError,
        r"dtype.*'float32'.*complex64",
    ),
    "no data at all": (
        {"representative_data": images()[:0]},
        ValueError,
        "at least one sample",
    ),
    "empty generator": (
        {"representative_data": iter(())},
        ValueError,
        "`representative_data` must hold at least one sample",
    ),
    "empty dataset": (
        {"verification_data": tf.data.Dataset.from_tensor_slices(images()).take(0)},
        ValueError,
        "`verification_data` must hold at least one sample",
    ),
    "no data but a number": ({"representative_data": 3}, TypeError, "=3"),
    "other names": (
        {"representative_data": {"picture": images()}},
        ValueError,
        r"\['picture'\], without 'image'",
    ),
    "too many inputs": (
        {"verification_data": ([images(), images()],)},
        ValueError,
        r"1 arrays.*Received: 2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments(model, tmp_path, case):
    arguments, error, message = CASES[case]
    with pytest.raises(error, match=message):
        export(model, tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be(model, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for target in (file, file / "below"):
        with pytest.raises(ValueError, match=rf"directory.*{target}"):
            export(model, target)
    assert file.read_text() == "mine"
    # Not even root may make this one.
    with pytest.raises(ValueError, match=r"directory.*/proc/pgmpf"):
        export(model, "/proc/pgmpf/out")


def test_models_that_cannot_be_exported(tmp_path):
    with pytest.raises(TypeError, match=r"keras\.Model"):
        export("model.keras", tmp_path / "out")
    with pytest.raises(TypeError, match=r"`directory` must be a path.*=3"):
        export(convnet(), 3)
    with pytest.raises(ValueError, match="built"):
        export(keras.Sequential([layers.Dense(2)]), tmp_path / "out")
    fixed = keras.Sequential([keras.Input((4,), batch_size=2), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`batch_size` must be 2.*batch_size=5"):
        export(fixed, tmp_path / "out", batch_size=5)
    varying = keras.Sequential(
        [keras.Input((None, None, 3)), layers.GlobalAveragePooling2D()]
    )
    with pytest.raises(ValueError, match=r"`verification_data`.*unknown size"):
        export(varying, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_endless_generator_is_enough(model, tmp_path):
    endless = (images(4, seed) for seed in itertools.count())
    report = export(model, tmp_path, formats="tflite", verification_data=endless)
    assert report.samples == 256


def test_strings_are_not_numbers(tmp_path):
    words = keras.Input((3,), dtype="string", name="words")
    model = keras.Model(words, layers.StringLookup(vocabulary=["a"])(words))
    with pytest.raises(ValueError, match=r"'words'.*'string'"):
        export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_numpy_scalars_are_numbers(model, tmp_path):
    report = export(
        model,
        tmp_path,
        ["tflite"],
        batch_size=np.int64(2),
        tolerance=np.float32(0.5),
        min_agreement=np.float64(0.0),
        verbose=np.bool_(False),
    )
    assert report["tflite"].path.exists()
