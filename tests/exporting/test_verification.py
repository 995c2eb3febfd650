import numpy as np
import pytest

from pgmpf_tf.exporting.report import VerificationError
from pgmpf_tf.exporting.verification import Deviation, check, measure

WANTED = {"y": np.array([[1.0, -4.0], [3.0, 2.0]], "float32")}


def changed(entry, value):
    outputs = {"y": WANTED["y"].copy()}
    outputs["y"][entry] = value
    return outputs


def test_deviations_are_relative_to_the_largest_output():
    deviation = measure(changed((0, 0), 1.5), WANTED)
    assert deviation == Deviation(largest=0.125, mean=0.125 / 4, agreement=1.0)


def test_agreement_is_of_the_largest_entry_where_it_is_least():
    flipped = measure(changed((1, 1), 3.5), WANTED)
    assert flipped.agreement == 0.5
    regression = {"y": np.ones((3, 1))}
    assert measure(regression, regression).agreement is None
    both = {**WANTED, "z": np.eye(4)}
    outputs = {**WANTED, "z": np.roll(np.eye(4), 1, axis=1)}
    assert measure(outputs, both).agreement == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails_unless_the_model_says_so_too(bad):
    check("file", measure(changed((0, 1), bad), changed((0, 1), bad)), 1e-6, 1.0)
    for outputs, wanted in (
        (changed((0, 1), bad), WANTED),
        (WANTED, changed((0, 1), bad)),
    ):
        with pytest.raises(VerificationError, match="file deviates"):
            check("file", measure(outputs, wanted), 1e-6, None)


def test_other_names_or_shapes_fail():
    with pytest.raises(VerificationError, match="outputs"):
        measure({"x": WANTED["y"]}, WANTED)
    with pytest.raises(VerificationError, match=r"\(1, 2\)"):
        measure({"y": WANTED["y"][:1]}, WANTED)


def test_bounds():
    deviation = Deviation(largest=0.2, mean=0.1, agreement=0.8)
    check("file", deviation, None, None)
    check("file", deviation, 0.2, 0.8)
    with pytest.raises(VerificationError, match=r"2\.00e-01.*tolerance=0\.1"):
        check("file", deviation, 0.1, None)
    with pytest.raises(VerificationError, match=r"80\.0%.*min_agreement=0\.9"):
        check("file", deviation, None, 0.9)
    check("file", Deviation(0.0, 0.0, None), None, 1.0)
