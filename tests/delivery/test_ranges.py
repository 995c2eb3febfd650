import keras
import pytest
from keras import layers

from pgmpf_tf.delivery.ranges import RANGES, find_range, rescaled
from tests.delivery.networks import classifier, images


@pytest.mark.parametrize(("name", "factor"), [("0..255", 1.0), ("0..1", 1 / 255)])
def test_statistics_tell_the_range(name, factor):
    found, reason = find_range(classifier(factor), images(), None)
    assert found == name
    assert "statistics" in reason


def test_a_network_that_rescales_wants_bytes():
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(2, 3)]
    )
    assert find_range(model, images(), None)[0] == "0..255"


def test_without_statistics_the_user_is_asked():
    model = classifier(norm=False)
    with pytest.raises(ValueError, match=r"`input_range` must be given.*'-1\.\.1'"):
        find_range(model, images(), None)
    assert find_range(model, images(), "-1..1") == ("-1..1", "as asked for")


def test_ranges_are_what_they_are_called():
    ends = images(2)
    ends[0], ends[1] = 0, 255
    for name in RANGES:
        low, high = (float(end) for end in name.split(".."))
        assert rescaled(ends, name).min() == pytest.approx(low)
        assert rescaled(ends, name).max() == pytest.approx(high)
