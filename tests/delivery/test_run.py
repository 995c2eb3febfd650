"""`prune`: smaller files from a network and data without labels."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf.__main__ import main
from pgmpf_tf._files import locked
from pgmpf_tf.delivery import mending, work
from tests.delivery.networks import classifier, images, write_images


@pytest.fixture(scope="module")
def model():
    return classifier()


def widths(model):
    return [x.filters for x in model.layers if isinstance(x, layers.Conv2D)]


def test_a_folder_of_images_becomes_a_small_network_and_its_files(
    model, tmp_path, capsys
):
    write_images(tmp_path / "photos")
    model.save(tmp_path / "model.keras")
    status = main(
        [
            "prune",
            str(tmp_path / "model.keras"),
            "--budget=macs=0.93",
            f"--images={tmp_path / 'photos'}",
            f"--output={tmp_path / 'out'}",
            "--minutes=0.1",
            "--json",
        ]
    )
    assert status == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["macs"]["small"] <= 0.07 * figures["macs"]["dense"]
    assert figures["held_out_samples"] == 32
    (output,), (before,) = figures["outputs"], figures["outputs_before_mending"]
    assert output["top1_agreement"] >= 0.9
    assert output["relative_error"] <= before["relative_error"]
    assert any("0..1" in note for note in figures["notes"])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["dense", "report.html", "small", "small.keras"]
    assert (tmp_path / "out" / "small" / "model.tflite").exists()
    small = keras.models.load_model(tmp_path / "out" / "small.keras")
    assert pgmpf_tf.profile(small).macs == figures["macs"]["small"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Same top class as the dense network" in page


def test_numbers_of_filters_are_rounded(model, tmp_path):
    data = images() / 255
    budget = pgmpf_tf.Budget(macs=0.4)
    odd = pgmpf_tf.prune(
        model, data, tmp_path / "odd", budget=budget, minutes=0, verbose=False
    ).model
    assert not all(width % 4 == 0 for width in widths(odd))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", data)
    command = ["prune", str(tmp_path / "model.keras"), "--budget=macs=0.4"]
    command += [f"--data={tmp_path / 'images.npy'}", f"--output={tmp_path / 'even'}"]
    assert main([*command, "--round_to=4", "--minutes=0"]) == 0
    even = keras.models.load_model(tmp_path / "even" / "small.keras")
    assert all(width % 4 == 0 for width in widths(even))


def test_the_given_model_stays_as_it_is(model, tmp_path):
    before = model.get_weights()
    pgmpf_tf.prune(model, images() / 255, tmp_path, minutes=0, verbose=False)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_an_interrupted_run_goes_on(model, tmp_path, monkeypatch):
    """What was measured and pruned is not done again; other settings are refused."""
    data = images() / 255
    options = {"minutes": 0.05, "verbose": False}

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mending, "mend", die)
        with pytest.raises(KeyboardInterrupt):
            pgmpf_tf.prune(model, data, tmp_path, **options)
    unfinished = tmp_path / work.NAME
    pruned = keras.models.load_model(unfinished / "pruned.keras")
    with pytest.raises(ValueError, match="unfinished work"):
        pgmpf_tf.prune(
            model, data, tmp_path, budget=pgmpf_tf.Budget(macs=0.3), **options
        )
    result = pgmpf_tf.prune(model, data, tmp_path, **options)
    assert "measuring which filters matter" not in result.seconds
    assert [w.shape for w in result.model.weights] == [w.shape for w in pruned.weights]
    assert not unfinished.exists()


def test_less_agreement_is_accepted_where_it_is_asked_for(tmp_path, capsys):
    """Two classes whose scores differ by less than a step of int8."""
    x = keras.Input((4,))
    hidden = layers.Dense(6, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(3, use_bias=False, name="scores")(hidden))
    column = np.random.default_rng(0).uniform(0.5, 1, size=(6, 1))
    nearly = column + 1e-4 * np.random.default_rng(1).normal(size=(6, 1))
    weights = np.concatenate([column, nearly, -column], axis=1)
    model.get_layer("scores").set_weights([weights])
    data = np.random.default_rng(2).uniform(0.1, 1, size=(160, 4)).astype("float32")
    np.save(tmp_path / "data.npy", data)
    model.save(tmp_path / "model.keras")
    command = [
        *("prune", str(tmp_path / "model.keras"), f"--data={tmp_path / 'data.npy'}"),
        *(f"--output={tmp_path / 'out'}", "--minutes=0", "--quantize=int8"),
    ]
    assert main(command) == 1
    assert "min_agreement=0.9" in capsys.readouterr().err
    assert main([*command, "--min_agreement=0", "--tolerance=1e-9"]) == 1
    assert "tolerance=1e-09" in capsys.readouterr().err
    assert main([*command, "--min_agreement=0"]) == 0
    # What was found before a file was refused is not found anew.
    assert "measuring which filters matter" not in capsys.readouterr().err
    assert (tmp_path / "out" / "small" / "model_int8.tflite").exists()


def test_a_network_for_images_of_any_size_gets_the_size_asked_for(tmp_path):
    inner = classifier()
    image = keras.Input((None, None, 3), name="photo")
    x = image
    for layer in inner.layers[:5]:
        x = layer(x)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    write_images(tmp_path / "photos")
    options = {"minutes": 0, "verbose": False, "input_range": "0..1"}
    arguments = model, tmp_path / "photos", tmp_path / "out"
    with pytest.raises(ValueError, match=r"`image_size` must be .*\(None, None\)"):
        pgmpf_tf.prune(*arguments, **options)
    result = pgmpf_tf.prune(*arguments, **options, image_size=(16, 12))
    assert result.model.input_shape == (None, 16, 12, 3)
    assert any("'photo'" in note for note in result.notes)


def test_two_runs_do_not_share_a_directory(model, tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match=r"Another process is at work.*`directory`"),
    ):
        pgmpf_tf.prune(model, images() / 255, tmp_path, minutes=0, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "model.keras"}, TypeError, "`model`"),
        ({"budget": 0.5}, TypeError, "`budget` must be a Budget.*budget=0.5"),
        ({"round_to": 0}, ValueError, "`round_to`.*=0"),
        ({"minutes": -1}, ValueError, "`minutes`.*-1"),
        ({"minutes": "x"}, TypeError, "`minutes`.*'x'"),
        ({"formats": "tfjs"}, ValueError, "`formats`.*tfjs"),
        ({"input_range": "0..2"}, ValueError, r"`input_range`.*0\.\.2"),
        ({"image_size": (8, 8)}, ValueError, r"`image_size`.*folder.*\(8, 8\)"),
        ({"image_size": (8, 0.5)}, TypeError, r"`image_size\[1\]`.*0\.5"),
        ({"seed": -1}, ValueError, "`seed`.*-1"),
        ({"verbose": 3}, TypeError, "`verbose`.*3"),
        ({"data": np.zeros((9, 12, 12, 3))}, ValueError, "at least 10 samples"),
        ({"data": np.zeros((20, 9, 9, 3))}, ValueError, "`data` must have the shape"),
        ({"data": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"data": 3}, TypeError, "`data`.*=3"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    model, tmp_path, arguments, error, message
):
    options = {"model": model, "data": images() / 255, "directory": tmp_path / "out"}
    with pytest.raises(error, match=message):
        pgmpf_tf.prune(**options | {"verbose": False} | arguments)
    assert list(tmp_path.iterdir()) == []
