import keras
import pytest
from keras import layers

from pgmpf_tf.profiling import profile
from pgmpf_tf.report import compare


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
        line.split("│")[1].strip(): line
        for line in str(comparison).splitlines()
        if "│" in line
    }
    assert set(lines) >= {"stem", "head", "total"}
    dense_macs = 6 * 6 * 3 * 3 * 3 * 8
    for part in (f"{dense_macs:,}", f"{dense_macs // 2:,}", "-50.0 %", "6 x 6 x 4"):
        assert part in lines["stem"]
    assert f"{dense_macs + 16:,}" in lines["total"]


def test_profiles_are_as_good_as_models():
    dense, small = network(8), network(4)
    assert compare(profile(dense), small) == compare(dense, profile(small))


def test_a_layer_in_one_model_only_has_a_row():
    table = str(compare(network(8), network(8, tail=False)))
    (row,) = [line for line in table.splitlines() if "head" in line]
    assert "-100.0 %" in row
    assert "new" in str(compare(network(8, tail=False), network(8)))


def test_what_is_no_model_is_an_error_that_names_the_argument():
    with pytest.raises(TypeError, match=r"small must be a keras\.Model.*small=3"):
        compare(network(8), 3)
