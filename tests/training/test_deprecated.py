"""What README showed before options became objects goes on working for a release."""

import re
import warnings

import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf import Distillation, PruningConfig, criteria
from tests.training.networks import convnet, cross_entropy, images_and_labels

DATA = images_and_labels(8)
TEACHER = convnet("teacher")


OURS = "The keywords"
"""How the warnings start: Keras has some of its own on PyTorch."""


def wrapped(warning, **options):
    """A wrapped model; the warning says what to write and where it was written."""
    with pytest.warns(DeprecationWarning, match=re.escape(warning)) as caught:
        model = pgmpf_tf.wrap(convnet(), **options)
    ours = [entry for entry in caught if str(entry.message).startswith(OURS)]
    assert [entry.filename for entry in ours] == [__file__]
    return model


def test_what_readme_of_the_last_release_showed_runs_word_for_word():
    keras_model, (x, y), loss, teacher = convnet(), DATA, cross_entropy(), TEACHER
    with pytest.warns(DeprecationWarning, match=r"criteria\.Taylor\(data, loss\)"):
        # fmt: off
        model = pgmpf_tf.wrap(keras_model, rate=0.3, criterion="taylor", data=(x, y), loss=loss)  # noqa: E501
        # fmt: on
    model.apply_masks()
    assert model.criterion_data == (x, y)
    assert model.pruning_settings.criterion == criteria.Taylor(loss=loss)
    with pytest.warns(DeprecationWarning, match=r"Distillation\(teacher, weight=0.5\)"):
        model = pgmpf_tf.wrap(keras_model, rate=0.5, teacher=teacher, distillation=0.5)
    assert model.teacher is teacher
    assert model.pruning_settings.distillation_weight == 0.5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            {"dropout": 0.25},
            {"method": PruningConfig.preset("pgmpf", dropout=0.25)},
            "method=pgmpf_tf.PruningConfig.preset('pgmpf', dropout=0.25)",
        ),
        (
            {"method": PruningConfig(updates=2), "dropout": 0.25},
            {"method": PruningConfig(updates=2, dropout=0.25)},
            "method=config.replace(dropout=0.25)",
        ),
        (
            {"method": "pgmpf_published", "pretrained": True},
            {"method": PruningConfig.preset("pgmpf_published", pretrained=True)},
            "method=pgmpf_tf.PruningConfig.preset('pgmpf_published', pretrained=True)",
        ),
        (
            {"criterion": "l1", "combine": "max", "normalize": True},
            {"criterion": criteria.L1(combine="max", normalize=True)},
            "criterion=pgmpf_tf.criteria.L1(combine='max', normalize=True)",
        ),
        (
            {"criterion": np.amax, "normalize": True},
            {"criterion": criteria.Custom(np.amax, normalize=True)},
            "criterion=pgmpf_tf.criteria.Custom(amax, normalize=True)",
        ),
        (
            {"teacher": TEACHER, "temperature": 2.0},
            {"distillation": Distillation(TEACHER, temperature=2.0)},
            "distillation=pgmpf_tf.Distillation(teacher, temperature=2.0)",
        ),
        ({"distillation": 0}, {}, "distillation=None"),
    ],
    ids=lambda case: ",".join(case) if isinstance(case, dict) else "",
)
def test_old_keywords_mean_what_they_say_to_write(old, new, words):
    model = wrapped(words, seed=1, **old)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", OURS, DeprecationWarning)
        again = pgmpf_tf.wrap(convnet(), seed=1, **new)
    assert model.pruning_settings == again.pruning_settings
    assert model.teacher is again.teacher


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fraction": 0.5}, TypeError, "unexpected keyword argument 'fraction'"),
        ({"data": DATA}, ValueError, "`data` is for .*Received: data.*'l2'"),
        ({"loss": "mse"}, ValueError, "`loss` is for .*Received: loss.*'l2'"),
        (
            {"criterion": criteria.L1(), "combine": "max"},
            ValueError,
            r"write L1\(combine='max'\)",
        ),
        (
            {"distillation": Distillation(TEACHER), "temperature": 2.0},
            ValueError,
            r"write Distillation\(temperature=2.0\)",
        ),
        ({"distillation": 0.5}, ValueError, "`distillation` needs a teacher.*=0.5"),
        ({"temperature": 2.0}, ValueError, "`temperature` needs a teacher.*=2.0"),
        (
            {"distillation": 1.5, "teacher": TEACHER},
            ValueError,
            r"`distillation` must be a Distillation or a number in \[0, 1\].*=1.5",
        ),
        ({"dropout": 1.5}, ValueError, "`dropout` must"),
        ({"pretrained": "yes"}, TypeError, "`pretrained` must be a bool"),
        (
            {"method": PruningConfig(), "pretrained": True},
            ValueError,
            r"`pretrained` chooses among published constants.*pretrained=True",
        ),
        ({"normalize": "yes"}, TypeError, "`normalize` must be a bool"),
        ({"teacher": "big"}, TypeError, "`teacher` must be a Keras model"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_never_worked_or_has_no_meaning_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        pgmpf_tf.wrap(convnet(), **options)


def test_keywords_that_are_none_say_nothing():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", OURS, DeprecationWarning)
        pgmpf_tf.wrap(convnet(), teacher=None, dropout=None, distillation=None)
