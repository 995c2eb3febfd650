import numpy as np
import pytest

from pgmpf_tf.exporting.results import OutputError, VerificationError
from pgmpf_tf.exporting.verification import Bounds, check, measure

WANTED = {"y": np.array([[1.0, -4.0], [3.0, 2.0]], "float32")}


def changed(entry, value):
    outputs = {"y": WANTED["y"].copy()}
    outputs["y"][entry] = value
    return outputs


def test_deviations_are_relative_to_the_largest_output():
    (error,) = measure(changed((0, 0), 1.5), WANTED)
    assert error.max_deviation == 0.125
    assert error.mean_deviation == 0.125 / 4
    assert error.top1_agreement == 1.0
    assert error.relative_error == pytest.approx(0.25 / np.std(WANTED["y"]))


def test_an_output_that_hardly_varies_is_held_to_its_size():
    constant = {"y": np.full((4, 1), 7.0)}
    (error,) = measure({"y": constant["y"] + 1e-3}, constant)
    assert error.relative_error == pytest.approx(1 / 7)


def test_agreement_is_of_the_largest_entry():
    (flipped,) = measure(changed((1, 1), 3.5), WANTED)
    assert flipped.top1_agreement == 0.5
    regression = {"y": np.ones((3, 1))}
    assert measure(regression, regression)[0].top1_agreement is None
    both = {**WANTED, "z": np.eye(4)}
    outputs = {**WANTED, "z": np.roll(np.eye(4), 1, axis=1)}
    errors = measure(outputs, both)
    assert [(each.name, each.top1_agreement) for each in errors] == [
        ("y", 1.0),
        ("z", 0.0),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails_unless_the_model_says_so_too(bad):
    strict = Bounds(1e-6, 1.0, 1e-6)
    check("file", measure(changed((0, 1), bad), changed((0, 1), bad)), strict)
    for outputs, wanted in (
        (changed((0, 1), bad), WANTED),
        (WANTED, changed((0, 1), bad)),
    ):
        errors = measure(outputs, wanted)
        with pytest.raises(VerificationError, match="'y' of file deviates"):
            check("file", errors, Bounds(tolerance=1e-6))
        with pytest.raises(VerificationError, match="'y' of file has an error"):
            check("file", errors, Bounds(relative_error=1e-6))


def test_other_names_or_shapes_fail():
    with pytest.raises(VerificationError, match="outputs"):
        measure({"x": WANTED["y"]}, WANTED)
    with pytest.raises(VerificationError, match=r"\(1, 2\)"):
        measure({"y": WANTED["y"][:1]}, WANTED)


def test_bounds():
    classes = OutputError("y", 0.2, 0.1, 0.3, 0.8)
    check("file", [classes], Bounds())
    check("file", [classes], Bounds(0.2, 0.8))
    with pytest.raises(VerificationError, match=r"2\.00e-01.*tolerance=0\.1"):
        check("file", [classes], Bounds(tolerance=0.1))
    with pytest.raises(VerificationError, match=r"80\.0%.*min_agreement=0\.9"):
        check("file", [classes], Bounds(min_agreement=0.9))


def test_an_output_is_held_to_its_agreement_or_else_to_its_error():
    bounds = Bounds(min_agreement=0.8, relative_error=0.25)
    check("file", [OutputError("y", 0.2, 0.1, 0.3, 0.8)], bounds)
    check("file", [OutputError("y", 0.2, 0.1, 0.25, None)], bounds)
    regression = OutputError("y", 0.2, 0.1, 0.3, None)
    with pytest.raises(VerificationError, match=r"30\.0%.*25%"):
        check("file", [regression], bounds)
    scores = OutputError("y", 0.2, 0.1, 0.3, 0.1)
    with pytest.raises(VerificationError, match=r"30\.0%.*25%"):
        check("file", [scores], Bounds(min_agreement=0.0, relative_error=0.25))
