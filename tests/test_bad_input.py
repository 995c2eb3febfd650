"""What a user may pass wrongly, for every argument of every public name: one table.

Each row is refused at the call, by an error that names the argument and what was
received, before anything has been trained or written. A new argument wants a row.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf import (
    Budget,
    Distillation,
    PruningConfig,
    callbacks,
    criteria,
    schedules,
)
from tests.training.networks import convnet, cross_entropy, images_and_labels

X, Y = images_and_labels(8)


class Bad:
    """A value that is refused.

    Args:
        value: the value, or a function that makes it, in `made`.
        error: the error.
        beside: other arguments that make it wrong.
    """

    def __init__(self, value: Any, error: type[Exception], **beside: Any) -> None:
        self.value, self.error, self.beside = value, error, beside


def wrong_type(value: Any, **beside: Any) -> Bad:
    return Bad(value, TypeError, **beside)


def wrong_value(value: Any, **beside: Any) -> Bad:
    return Bad(value, ValueError, **beside)


class Subclassed(keras.Model):
    """A model that is not built."""


def compiled() -> keras.Model:
    model = convnet()
    model.compile("sgd", cross_entropy(), metrics=["accuracy"])
    return model


PLAIN = compiled()
WRAPPED = pgmpf_tf.wrap(compiled(), 0.5, epochs=4)
WRAPPED.compile("sgd", cross_entropy())
UNBUILT = Subclassed()
TEACHER = convnet("teacher")
TABLE = pgmpf_tf.Sensitivity(
    ("first",), (0.5,), np.array([[0.5]]), 0.9, "accuracy", True
)

PROFILE = pgmpf_tf.profile(PLAIN)

NO_MODEL = [wrong_type("net"), wrong_type(None), wrong_value(UNBUILT)]
NO_BOOL = [wrong_type("yes"), wrong_type(1), wrong_type(None)]
NO_FRACTION = [wrong_type("half"), wrong_type(True), wrong_value(1.5), wrong_value(-1)]
NO_PATTERNS = [wrong_type(3), wrong_type(None), wrong_type([3]), wrong_value("conv9*")]
NO_NAME = [wrong_type(3), wrong_type(None), wrong_value("best")]
NO_DATA = [wrong_type(None), wrong_type("train"), wrong_type(3)]
ONCE = [wrong_value(iter([(X, Y)]))]

OF_CRITERION = {
    "combine": [wrong_type(3), wrong_value("median")],
    "normalize": NO_BOOL,
}


@dataclasses.dataclass
class Target:
    """A callable with arguments that are right, and rows that are not.

    Attributes:
        call: what is called.
        right: arguments that it accepts.
        rows: for each argument values that it does not.
        unchecked: for arguments without a row, why that is.
    """

    call: Callable[..., Any]
    right: dict[str, Any]
    rows: dict[str, list[Bad]]
    unchecked: dict[str, str] = dataclasses.field(default_factory=dict)


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
    "Budget": Target(
        Budget,
        {"macs": 0.5},
        {
            "macs": [*NO_FRACTION, wrong_value(0.0), wrong_value(1.0)],
            "params": [*NO_FRACTION, wrong_value(0.0)],
            "latency": [*NO_FRACTION, wrong_value(0.0)],
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
    "compact": Target(
        pgmpf_tf.compact,
        {"model": PLAIN},
        {"model": NO_MODEL, "compile": NO_BOOL},
    ),
    "fold_batch_norm": Target(
        pgmpf_tf.fold_batch_norm, {"model": PLAIN}, {"model": NO_MODEL}
    ),
    "profile": Target(pgmpf_tf.profile, {"model": PLAIN}, {"model": NO_MODEL}),
    "compare": Target(
        pgmpf_tf.compare,
        {"dense": PLAIN, "small": PLAIN},
        {
            "dense": [*NO_MODEL, wrong_type(PROFILE, data=X)],
            "small": [*NO_MODEL, wrong_type(PROFILE, data=X)],
            "data": [wrong_type(3), wrong_value(X[:, 0])],
        },
    ),
    "recalibrate": Target(
        pgmpf_tf.recalibrate,
        {"model": PLAIN, "data": X},
        {
            "model": NO_MODEL,
            "data": [*NO_DATA, wrong_value(X[:0])],
            "batches": [wrong_type("x"), wrong_type(True), wrong_value(0)],
        },
    ),
    "sensitivity": Target(
        pgmpf_tf.sensitivity,
        {"model": PLAIN, "data": (X, Y), "progress": False},
        {
            "model": [wrong_type("net"), wrong_type(None), wrong_value(TEACHER)],
            "data": [*NO_DATA, *ONCE, wrong_value(X)],
            "rates": [
                wrong_type(0.5),
                wrong_type("half"),
                wrong_type(["half"]),
                wrong_value(()),
                wrong_value([1.0]),
            ],
            "metric": [wrong_type(3), wrong_value("beauty")],
            "mode": NO_NAME,
            "criterion": [wrong_type(3), wrong_type(criteria.L1), wrong_value("l7")],
            "coupling": NO_NAME,
            "exclude": NO_PATTERNS,
            "path": [
                wrong_type(3),
                wrong_value("/"),
                wrong_value("/proc/none/table.json"),
            ],
            "progress": NO_BOOL,
        },
    ),
    "Sensitivity.save_heatmap": Target(
        TABLE.save_heatmap,
        {},
        {"path": [wrong_type(3), wrong_value("/proc/none/table.png")]},
    ),
    "export": Target(
        pgmpf_tf.export,
        {"model": PLAIN, "directory": "out", "verbose": False},
        {
            "model": NO_MODEL,
            "directory": [wrong_type(3), wrong_type(None), wrong_value("/proc/none")],
            "formats": [
                wrong_type(None),
                wrong_type(3),
                wrong_type([3]),
                wrong_value(()),
                wrong_value("exe"),
            ],
            "quantize": [wrong_type(3), wrong_value("int3")],
            "representative_data": [
                wrong_type(3, quantize="int8"),
                wrong_value(None, quantize="int8"),
                wrong_value(X[:, 0], quantize="int8"),
            ],
            "verification_data": [wrong_type(3), wrong_value(X[:, 0])],
            "batch_size": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "integer_io": [*NO_BOOL, wrong_value(True)],
            "tolerance": [wrong_type("x"), wrong_type(True), wrong_value(0)],
            "min_agreement": NO_FRACTION,
            "verbose": NO_BOOL,
        },
    ),
    "report": Target(
        pgmpf_tf.report,
        {"dense": PLAIN, "small": PLAIN},
        {
            "dense": NO_MODEL,
            "small": NO_MODEL,
            "history": [wrong_type(3), wrong_type([3])],
            "exports": [wrong_type(3), wrong_type({"a": 3})],
            "sensitivity": [wrong_type(3), wrong_type("table.json")],
            "data": [wrong_type(3), wrong_value(X[:, 0])],
            "title": [wrong_type(3)],
        },
    ),
    "Report.save": Target(
        pgmpf_tf.Report("<html></html>").save,
        {},
        {"path": [wrong_type(3), wrong_value("/proc/none/report.html")]},
    ),
    "register_rule": Target(
        pgmpf_tf.register_rule,
        {"layer": Subclassed, "rule": pgmpf_tf.rules.Elementwise()},
        {
            "layer": [wrong_type("Dense"), wrong_type(int)],
            "rule": [wrong_type("Elementwise"), wrong_type(pgmpf_tf.rules.Elementwise)],
        },
    ),
    "quantize_aware": Target(
        pgmpf_tf.quantize_aware, {"model": PLAIN}, {"model": NO_MODEL}
    ),
    "prune": Target(
        pgmpf_tf.prune,
        {"model": PLAIN, "data": X, "directory": "out", "minutes": 0, "verbose": False},
        {
            "model": NO_MODEL,
            "data": [wrong_type(3)],
            "directory": [wrong_type(3), wrong_type(None)],
            "budget": [wrong_type(0.5)],
            "formats": [wrong_type(None), wrong_type(3), wrong_value("exe")],
            "quantize": [wrong_type(3), wrong_value("int3")],
            "minutes": [wrong_type("x"), wrong_type(True), wrong_value(-1)],
            "input_range": [wrong_type(3), wrong_value("0..2")],
            "seed": [wrong_type("x"), wrong_value(-1), wrong_value(2**31)],
            "verbose": NO_BOOL,
        },
    ),
    "to_tf_keras": Target(pgmpf_tf.to_tf_keras, {"model": PLAIN}, {"model": NO_MODEL}),
    "callbacks.PruningLog": Target(
        callbacks.PruningLog,
        {"log_dir": "logs"},
        {"log_dir": [wrong_type(3), wrong_type(None)], "histograms": NO_BOOL},
    ),
    "PrunedModel.fit": Target(
        WRAPPED.fit,
        {"x": X, "y": Y, "verbose": 0},
        {
            "epochs": [
                wrong_type(True),
                wrong_type("x"),
                wrong_type(1.5),
                wrong_value(0),
            ]
        },
        {
            name: "Keras takes it"
            for name in inspect.signature(keras.Model.fit).parameters
            if name not in ("self", "epochs")
        },
    ),
    "PrunedModel.update_masks": Target(
        WRAPPED.update_masks,
        {"epoch": 0},
        {
            "epoch": [
                wrong_type("a"),
                wrong_type(1.5),
                wrong_type(True),
                wrong_value(-2),
            ],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.mask_gradients": Target(
        WRAPPED.mask_gradients,
        {"gradients": list(WRAPPED.trainable_variables)},
        {
            "gradients": [wrong_type(3), wrong_type("x"), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.stateless_mask_gradients": Target(
        WRAPPED.stateless_mask_gradients,
        {
            "gradients": list(WRAPPED.trainable_variables),
            "non_trainable_variables": list(WRAPPED.non_trainable_variables),
            "optimizer_variables": list(WRAPPED.optimizer.variables),
        },
        {
            "gradients": [wrong_type(3), wrong_value([])],
            "non_trainable_variables": [wrong_type(3), wrong_value([])],
            "optimizer_variables": [wrong_type(3), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.pruning_summary": Target(
        WRAPPED.pruning_summary, {}, {"print_fn": [wrong_type(3)]}
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

CASES = [
    pytest.param(name, argument, bad, id=f"{name}-{argument}-{number}")
    for name, target in TARGETS.items()
    for argument, rows in target.rows.items()
    for number, bad in enumerate(rows)
]


@pytest.mark.parametrize(("name", "argument", "bad"), CASES)
def test_bad_input_is_refused_by_name(name, argument, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name]
    before = [np.copy(w) for w in (*PLAIN.get_weights(), *WRAPPED.get_weights())]
    state = [np.copy(v) for v in WRAPPED.pruning_state.variables]
    with pytest.raises((TypeError, ValueError)) as caught:
        target.call(**{**target.right, **bad.beside, argument: bad.value})
    message = str(caught.value)
    assert type(caught.value) is bad.error, message
    assert re.search(rf"`{argument}[\[`(]", message), message
    assert "Received: " in message, message
    assert not list(tmp_path.iterdir())
    after = (*PLAIN.get_weights(), *WRAPPED.get_weights())
    for value, old in zip(after, before, strict=True):
        np.testing.assert_array_equal(value, old)
    for value, old in zip(WRAPPED.pruning_state.variables, state, strict=True):
        np.testing.assert_array_equal(value, old)


MADE_BY_THE_LIBRARY = {
    "Artifact",
    "Comparison",
    "ExportReport",
    "LayerProfile",
    "OutputError",
    "Profile",
    "PrunedModel",
    "PruningResult",
    "Report",
    "Sensitivity",
    "VerificationError",
}
"""Classes that users get, and do not make."""

FORMULAS = {"l1", "l2", "geometric_median", "batchnorm_scale", "taylor"}
"""Functions that the library calls with arrays of its own."""

BASES = {"Criterion", "Curve", "EveryEpochs", "Schedule"}
"""Classes to derive from, or that functions make."""

CALLED_BY_OTHERS = {
    "PrunedModel.compute_loss": "Keras calls it in a training step",
    "PrunedModel.from_config": "Keras calls it with what a file holds",
    "Budget.from_config": "the library calls it with what a file holds",
    "Budget.kept_at_least": "the search calls it",
    "PruningConfig.from_config": "the library calls it with what a file holds",
    "PruningConfig.final": "the library calls it with its own progress",
    "PruningConfig.replace": "see PruningConfig",
    "schedules.as_schedule": "PruningConfig calls it with the names of its fields",
}


def public() -> dict[str, Callable[..., Any]]:
    """What users call, by the name by which they know it."""
    found: dict[str, Callable[..., Any]] = {}
    for name in pgmpf_tf.__all__:
        value = getattr(pgmpf_tf, name)
        if inspect.ismodule(value):
            if value is not pgmpf_tf.rules:  # pieces of rules: they are trusted
                found |= {
                    f"{name}.{k}": v for k, v in vars(value).items() if own(value, k)
                }
        elif name not in MADE_BY_THE_LIBRARY:
            found[name] = value
        if inspect.isclass(value):
            found |= {
                f"{name}.{key}": getattr(value, key)
                for key, entry in vars(value).items()
                if inspect.isroutine(getattr(value, key)) and not key.startswith("_")
            }
    return found


def own(module: Any, name: str) -> bool:
    """Whether a module offers a function or class, rather than just uses it."""
    value = vars(module)[name]
    if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
        return False
    listed = getattr(module, "__all__", None)
    return value.__module__ == module.__name__ if listed is None else name in listed


def test_every_argument_of_every_public_name_has_a_row():
    missing = []
    for name, value in public().items():
        last = name.rpartition(".")[2]
        if last in FORMULAS | BASES or name in CALLED_BY_OTHERS:
            continue
        parameters = [p for p in signature_of(value) if p not in ("self", "cls")]
        if not parameters:
            continue
        target = TARGETS.get(name)
        if target is None:
            missing.append(name)
            continue
        known = target.rows.keys() | target.unchecked.keys()
        missing += [f"{name}({p})" for p in parameters if p not in known]
    assert not missing


def signature_of(value: Any) -> list[str]:
    return list(inspect.signature(value).parameters)


def test_rows_are_of_arguments_that_exist():
    stale = [
        f"{name}({argument})"
        for name, target in TARGETS.items()
        for argument in (*target.rows, *target.unchecked)
        if argument not in signature_of(target.call)
    ]
    assert not stale
    known = public()
    assert not [name for name in CALLED_BY_OTHERS if name not in known]


@pytest.mark.parametrize("name", TARGETS)
def test_every_argument_has_a_wrong_type(name):
    rows = TARGETS[name].rows
    lacking = [
        a for a, bad in rows.items() if not any(b.error is TypeError for b in bad)
    ]
    assert not lacking
