"""The code that the page shows makes the model again."""

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf import criteria
from pgmpf_tf.reporting import sections
from pgmpf_tf.reporting.timeline import timeline
from pgmpf_tf.scores.sensitivity_table import Sensitivity
from tests.training.networks import convnet, cross_entropy, images_and_labels

DROPS = Sensitivity(
    ("first", "second"), (0.5,), np.array([[0.8], [0.5]]), 0.9, "accuracy", True
)
TEACHER = convnet("teacher")
DATA = images_and_labels(8)


def largest(filters):
    """A criterion of the user's own."""
    return np.abs(filters).max(axis=1)


def history_of(model):
    history = keras.callbacks.History()
    history.set_model(model)
    history.epoch = []
    return history


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"rate": {"first": 0.25, "sec*": 0.5}, "method": "asfp"},
        {"rate": pgmpf_tf.Budget(macs=0.4, min_keep=2, rates={"first": 0.25})},
        {"rate": pgmpf_tf.Budget(params=0.3, strategy="global")},
        {"rate": pgmpf_tf.Budget(macs=0.3, strategy="sensitivity", sensitivity=DROPS)},
        {
            "method": pgmpf_tf.PruningConfig(
                rate=pgmpf_tf.schedules.cubic(end=0.4),
                updates=pgmpf_tf.schedules.every_epochs(2),
                dropout=0.25,
            )
        },
        {"criterion": criteria.Custom(largest, combine="max", normalize=True)},
        {"criterion": "random", "seed": 5},
        {"exclude": ("first", "scores"), "coupling": "independent", "round_to": 2},
        {"epochs": 7, "suppress": "update", "seed": 3},
        {"distillation": pgmpf_tf.Distillation(TEACHER, 0.25, temperature=2.0)},
        {"criterion": criteria.Taylor(DATA, combine="max")},
        {"criterion": criteria.Taylor(DATA, "sparse_categorical_crossentropy")},
    ],
    ids=lambda arguments: ",".join(arguments) or "default",
)
def test_the_code_makes_a_model_with_the_same_settings(arguments):
    dense = convnet()
    names = {
        "pgmpf_tf": pgmpf_tf,
        "model": dense,
        "largest": largest,
        "sensitivity": DROPS,
        "teacher": TEACHER,
        "data": DATA,
    }
    model = pgmpf_tf.wrap(dense, **arguments)
    exec(sections.code(timeline(history_of(model))), names)
    again = names["model"]
    assert again is not model
    assert again.pruning_settings == model.pruning_settings
    assert again.teacher is model.teacher
    assert again.criterion_data is model.criterion_data


def test_the_code_tells_each_call_of_fit():
    x, y = images_and_labels(8)
    model = pgmpf_tf.wrap(convnet(), 0.5, epochs=3)
    model.compile("sgd", cross_entropy())
    first = model.fit(x, y, 4, epochs=1, verbose=0)
    second = model.fit(x, y, 4, epochs=3, initial_epoch=1, verbose=0)
    *_, one, two = sections.code(timeline([first, second])).splitlines()
    assert one == "model.fit(data, epochs=1, steps_per_epoch=2)"
    assert two == "model.fit(data, epochs=3, initial_epoch=1, steps_per_epoch=2)"


def test_a_plain_model_s_history_has_no_code():
    assert sections.code(timeline(history_of(convnet()))) is None
    assert sections.code(timeline({"loss": [1.0]})) is None
