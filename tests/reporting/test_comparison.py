from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting import VerificationError
from pgmpf_tf.profiling import LayerProfile, Profile, profile
from pgmpf_tf.reporting import compare


def network(width, *, tail=True):
    stack = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(width, 3, use_bias=False, name="stem"),
        layers.GlobalAveragePooling2D(),
    ]
    if tail:
        stack.append(layers.Dense(2, use_bias=False, name="head"))
    return keras.Sequential(stack, name="network")


def test_fractions_and_table_say_what_is_gone():
    comparison = compare(network(8), network(4))
    assert comparison.macs_removed == pytest.approx(0.5)
    assert comparison.params_removed == pytest.approx(0.5)
    lines = {
        line.split()[0]: line
        for line in str(comparison).splitlines()
        if len(line.split()) > 1
    }
    assert set(lines) >= {"stem", "head", "total"}
    dense_macs = 6 * 6 * 3 * 3 * 3 * 8
    for part in (f"{dense_macs:,}", f"{dense_macs // 2:,}", "-50.0%", "6 x 6 x 4"):
        assert part in lines["stem"]
    assert f"{dense_macs + 16:,}" in lines["total"]


def test_profiles_are_as_good_as_models():
    dense, small = network(8), network(4)
    assert compare(profile(dense), small) == compare(dense, profile(small))


def test_a_layer_in_one_model_only_has_a_row():
    table = str(compare(network(8), network(8, tail=False)))
    (row,) = [line for line in table.splitlines() if "head" in line]
    assert "-100.0%" in row
    assert "new" in str(compare(network(8, tail=False), network(8)))


@pytest.mark.parametrize(("width", "shapes"), [(80, False), (160, True)])
def test_no_number_is_cut_on_a_terminal(width, shapes, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    layer = LayerProfile(
        name="conv5_block3_out_conv",
        type="Conv2D",
        output_shape=(None, 224, 224, 2048),
        macs=3_857_973_248,
        params=25_636_712,
        calls=1,
        convolution=True,
    )
    half = replace(layer, macs=994_508_800, params=6_957_480)
    table = str(compare(Profile("net", (layer,)), Profile("net", (half,))))
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    for number in ("3,857,973,248", "994,508,800", "25,636,712", "6,957,480"):
        assert table.count(number) == 2  # the layer's and the total's
    assert table.count("224 x 224 x 2048") == 2 * shapes


def test_what_is_no_model_is_an_error_that_names_the_argument():
    with pytest.raises(TypeError, match=r"`small` must be a keras\.Model.*small=3"):
        compare(network(8), 3)


def images(count=20):
    return np.random.default_rng(0).normal(size=(count, 8, 8, 3)).astype("float32")


def test_data_say_how_far_the_outputs_are_apart():
    dense = network(8)
    same = compare(dense, keras.models.clone_model(dense), images())
    assert same.samples == 20
    (error,) = same.outputs
    assert error.name == "head"
    copy = keras.models.clone_model(dense)
    copy.set_weights(dense.get_weights())
    (error,) = compare(dense, copy, images()).outputs
    assert (error.top1_agreement, error.relative_error) == (1.0, 0.0)
    assert error.correlation == pytest.approx(1.0)
    copy.layers[-1].kernel.assign(-copy.layers[-1].kernel)
    table = compare(dense, copy, images())
    (error,) = table.outputs
    assert error.top1_agreement == 0.0
    assert error.correlation == pytest.approx(-1.0)
    assert "head on 20 samples: same top class 0.0%" in str(table)


def test_data_need_models_of_the_same_outputs():
    dense = network(8)
    with pytest.raises(TypeError, match=r"`small`.*where `data`"):
        compare(dense, profile(dense), images())
    with pytest.raises(VerificationError, match="outputs"):
        compare(dense, network(8, tail=False), images())
    with pytest.raises(ValueError, match=r"`data` must have the shape"):
        compare(dense, network(4), images()[:, :4])
