"""What a user may pass wrongly, for every argument of every public name: one table.

Each row is refused at the call, by an error that names the argument and what was
received, before anything has been trained or written. A new argument wants a row.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import pgmpf_tf
from tests.bad_input import functions, settings, training
from tests.bad_input.rows import PLAIN, WRAPPED

TARGETS = settings.TARGETS | functions.TARGETS | training.TARGETS

CASES = [
    pytest.param(name, argument, bad, id=f"{name}-{argument}-{number}")
    for name, target in TARGETS.items()
    for argument, rows in target.rows.items()
    for number, bad in enumerate(rows)
]


def state():
    """All that a call could change."""
    variables = (*PLAIN.variables, *WRAPPED.variables)
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


@pytest.fixture(scope="module")
def before():
    return state()


@pytest.mark.parametrize(("name", "argument", "bad"), CASES)
def test_bad_input_is_refused_by_name(
    name, argument, bad, before, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        target.call(**{**target.right, **bad.beside, argument: bad.value})
    message = str(caught.value)
    assert type(caught.value) is bad.error, message
    assert re.search(rf"`{argument}[\[`(]", message), message
    assert "Received: " in message, message
    assert not list(tmp_path.iterdir())
    for value, old in zip(state(), before, strict=True):
        assert np.array_equal(value, old)


MADE_BY_THE_LIBRARY = {
    "Artifact",
    "Comparison",
    "ExportReport",
    "LatencyTable",
    "LayerError",
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

FORMULAS = {
    "l1",
    "l2",
    "geometric_median",
    "batchnorm_scale",
    "taylor",
    "activation",
    "variance",
}
"""Functions that the library calls with arrays of its own."""

BASES = {"Criterion", "Curve", "EveryEpochs", "Schedule"}
"""Classes to derive from, or that functions make."""

CALLED_BY_OTHERS = {
    "PrunedModel.compute_loss": "Keras calls it in a training step",
    "PrunedModel.train_step": "Keras calls it",
    "PrunedModel.test_step": "Keras calls it",
    "PrunedModel.make_train_function": "Keras calls it",
    "PrunedModel.from_config": "Keras calls it with what a file holds",
    "Budget.from_config": "the library calls it with what a file holds",
    "Budget.kept_at_least": "the search calls it",
    "LatencyTable.from_dict": "the library calls it with what a file holds",
    "LatencyTable.milliseconds": "the search calls it",
    "LatencyTable.whole": "`measure` calls it",
    "LatencyTable.with_times": "`measure` calls it",
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
                f"{name}.{key}": entry
                for key, entry in inspect.getmembers(value, inspect.isroutine)
                if not key.startswith("_")
                and getattr(entry, "__module__", "").startswith("pgmpf_tf")
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
