"""What every format keeps: the function, the names, their order, the batch."""

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting import export
from pgmpf_tf.exporting.formats.registry import FORMATS
from tests.exporting.networks import convnet

ABLE = [name for name in FORMATS if name != "torch"]
"""On TensorFlow; the other one has tests of its own."""


def several():
    """Names that are not in alphabetical order, and one that is no identifier."""
    keras.utils.set_random_seed(0)
    left, right = keras.Input((5,), name="left"), keras.Input((3,), name="b-right")
    merged = layers.Concatenate()([layers.Dense(6, "relu")(left), right])
    scores = layers.Dense(4, name="scores")(merged)
    return keras.Model([left, right], [scores, layers.Dense(1, name="box")(merged)])


@pytest.fixture(scope="module", params=[None, 3], ids=["any batch", "batch of 3"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    model = several()
    return (
        model,
        request.param,
        export(model, folder, ABLE, batch_size=request.param, verbose=False),
    )


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.feature("`export` to every format")
def test_the_function_the_names_and_the_batch_are_kept(exported, name):
    model, batch_size, report = exported
    path = report[name].path
    assert path.name == FORMATS[name].file
    assert path.exists()
    run = FORMATS[name].load(path)
    for count in (1, 5) if batch_size is None else (batch_size,):
        generator = np.random.default_rng(count)
        left = generator.normal(size=(count, 5)).astype("float32")
        right = generator.normal(size=(count, 3)).astype("float32")
        outputs = run({"left": left, "b_right": right})
        assert set(outputs) == {"scores", "box"}
        scores, box = model([left, right])
        np.testing.assert_allclose(outputs["scores"], scores, atol=1e-5)
        np.testing.assert_allclose(outputs["box"], box, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in ABLE if FORMATS[n].deployed])
def test_what_is_deployed_is_timed(exported, name):
    _, _, report = exported
    assert report[name].latency_ms > 0


def test_what_is_missing_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(type(FORMATS["onnx"]), "packages", ("onnx", "of_nobody"))
    with pytest.raises(
        ImportError, match=r"'onnx' needs of_nobody.*pip install 'pgmpf_tf\[onnx\]'"
    ):
        export(convnet(), tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []
