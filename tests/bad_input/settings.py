"""What may be passed wrongly to `wrap`, and to the objects that it takes."""

import inspect

import numpy as np

import pgmpf_tf
from pgmpf_tf import Budget, Distillation, PruningConfig, criteria, schedules
from tests.bad_input.rows import (
    NO_BOOL,
    NO_FRACTION,
    NO_MODEL,
    NO_NAME,
    NO_PATTERNS,
    ONCE,
    PLAIN,
    TABLE,
    TEACHER,
    WRAPPED,
    Target,
    X,
    Y,
    wrong_type,
    wrong_value,
)

LATENCIES = pgmpf_tf.LatencyTable("tflite", "float32", 1, "nowhere")

OF_CRITERION = {
    "combine": [wrong_type(3), wrong_value("median")],
    "normalize": NO_BOOL,
}

TARGETS = {
    "wrap": Target(
        pgmpf_tf.wrap,
        {"model": PLAIN},
        {
            "model": [*NO_MODEL, wrong_value(WRAPPED)],
            "rate": [
                wrong_type("half"),
                wrong_type(None),
                wrong_type(True),
                wrong_type([0.5]),
                wrong_type({3: 0.5}),
                wrong_type({"first": "half"}),
                wrong_value({}),
                wrong_value(1.0),
                wrong_value(-0.1),
                wrong_value(np.nan),
                wrong_value(0.01),
                wrong_value({"conv9": 0.5}),
                wrong_value({"first": 1.5}),
            ],
            "method": [wrong_type(3), wrong_type(None), wrong_value("lottery")],
            "criterion": [
                wrong_type(3),
                wrong_type(None),
                wrong_type(criteria.L1),
                wrong_value("l7"),
                wrong_value("batchnorm_scale"),
            ],
            "coupling": NO_NAME,
            "exclude": NO_PATTERNS,
            "epochs": [
                wrong_type("x"),
                wrong_type(True),
                wrong_type(2.5),
                wrong_value(0),
                wrong_value(2, method=PruningConfig(updates=schedules.every_epochs(3))),
            ],
            "suppress": NO_NAME,
            "round_to": [
                wrong_type("x"),
                wrong_type(1.5),
                wrong_type(None),
                wrong_value(0),
                wrong_value(1000),
            ],
            "distillation": [wrong_type("x"), wrong_type(TEACHER), wrong_value(0.5)],
            "seed": [
                wrong_type("x"),
                wrong_type(1.5),
                wrong_value(-1),
                wrong_value(2**31),
            ],
        },
        {"deprecated": "tests/training/test_deprecated.py has them"},
    ),
    "Distillation": Target(
        Distillation,
        {"teacher": TEACHER},
        {
            "teacher": [wrong_type("big"), wrong_type(None)],
            "weight": NO_FRACTION,
            "temperature": [wrong_type("x"), wrong_value(0), wrong_value(np.inf)],
        },
    ),
    "Rounding": Target(
        pgmpf_tf.Rounding,
        {"multiple": 8},
        {
            "multiple": [wrong_type("x"), wrong_type(1.5), wrong_value(0)],
            "direction": [*NO_NAME, wrong_value("up ")],
        },
    ),
    "Budget": Target(
        Budget,
        {"macs": 0.5},
        {
            "macs": [*NO_FRACTION, wrong_value(0.0), wrong_value(1.0)],
            "params": [*NO_FRACTION, wrong_value(0.0)],
            "latency": [*NO_FRACTION, wrong_value(0.0)],
            "latency_table": [
                wrong_type(3, latency=0.5),
                wrong_value("none.json", latency=0.5),
                wrong_value(LATENCIES),
            ],
            "strategy": NO_NAME,
            "sensitivity": [
                wrong_type("x", strategy="sensitivity"),
                wrong_value(None, strategy="sensitivity"),
                wrong_value(TABLE),
            ],
            "min_keep": [
                wrong_type("x"),
                wrong_type(None),
                wrong_type(True),
                wrong_type({3: 1}),
                wrong_type({"a": "x"}),
                wrong_value(0),
                wrong_value(1.5),
                wrong_value({}),
            ],
            "rates": [
                wrong_type(None),
                wrong_type(0.5),
                wrong_type([1]),
                wrong_type({3: 0.5}),
                wrong_value({"a": 1.0}),
            ],
        },
    ),
    "PruningConfig": Target(
        PruningConfig,
        {},
        {
            "rate": [
                wrong_type("x"),
                wrong_type(None),
                wrong_value(1.5),
                wrong_value(0.5),
            ],
            "weight_mask": [wrong_type("x"), wrong_value(-1), wrong_value(0.5)],
            "suppression": [wrong_type("x"), wrong_type(None), wrong_value(2)],
            "dropout": NO_FRACTION,
            "updates": [
                wrong_type(1.5),
                wrong_type(None),
                wrong_value(0),
                wrong_value("often"),
            ],
            "kernels_only": NO_BOOL,
        },
    ),
    "PruningConfig.preset": Target(
        PruningConfig.preset,
        {"name": "pgmpf"},
        {
            "name": [wrong_type(3), wrong_value("lottery")],
            "pretrained": NO_BOOL,
        },
        {"changes": "see PruningConfig"},
    ),
    "criteria.L1": Target(criteria.L1, {}, OF_CRITERION),
    "criteria.L2": Target(criteria.L2, {}, OF_CRITERION),
    "criteria.GeometricMedian": Target(criteria.GeometricMedian, {}, OF_CRITERION),
    "criteria.BatchNormScale": Target(criteria.BatchNormScale, {}, OF_CRITERION),
    "criteria.Taylor": Target(
        criteria.Taylor,
        {"data": (X, Y)},
        {
            "data": [wrong_type("train"), wrong_type(3), *ONCE],
            "loss": [wrong_type(3), wrong_type({"a": 3}), wrong_value("beauty")],
            **OF_CRITERION,
        },
    ),
    "criteria.Activation": Target(
        criteria.Activation,
        {"data": X},
        {"data": [wrong_type("train"), wrong_type(3), *ONCE], **OF_CRITERION},
    ),
    "criteria.Variance": Target(
        criteria.Variance,
        {"data": X},
        {"data": [wrong_type("train"), wrong_type(3), *ONCE], **OF_CRITERION},
    ),
    "criteria.Random": Target(
        criteria.Random,
        {},
        {
            "seed": [
                wrong_type("x"),
                wrong_type(1.5),
                wrong_value(-1),
                wrong_value(2**31),
            ],
            **OF_CRITERION,
        },
    ),
    "criteria.Custom": Target(
        criteria.Custom,
        {"function": np.amax},
        {"function": [wrong_type("l2"), wrong_type(criteria.L1)], **OF_CRITERION},
    ),
    "criteria.resolve": Target(
        criteria.resolve,
        {"criterion": "l1"},
        {"criterion": [wrong_type(3), wrong_type(criteria.L1), wrong_value("l7")]},
    ),
}

SCHEDULES = {
    "begin": [wrong_type("x"), wrong_value(-1), wrong_value(1.0)],
    "end": [wrong_type("x"), wrong_type(None), wrong_value(0), wrong_value(1.5)],
    "depth": [wrong_type("x"), wrong_value(0)],
    "floor": [wrong_type("x"), wrong_value(0), wrong_value(1.0)],
    "level": NO_FRACTION,
    "first": NO_FRACTION,
    "last": NO_FRACTION,
    "period": [wrong_type("x"), wrong_value(0)],
    "initial": [wrong_type("x"), wrong_value(0)],
    "schedule": [wrong_type("x"), wrong_type(None), wrong_value(1.5)],
    "function": [wrong_type("x"), wrong_value(lambda progress: 2.0)],
    "count": [wrong_type("x"), wrong_type(1.5), wrong_value(0)],
}
RIGHT = {
    "level": 0.5,
    "first": 0.1,
    "last": 0.9,
    "schedule": schedules.linear(),
    "function": abs,
}
for made in (*schedules.FORMS.values(), schedules.every_epochs):
    names = inspect.signature(made).parameters
    TARGETS[f"schedules.{made.__name__}"] = Target(
        made,
        {name: RIGHT[name] for name in names if name in RIGHT},
        {name: SCHEDULES[name] for name in names if name in SCHEDULES},
    )
