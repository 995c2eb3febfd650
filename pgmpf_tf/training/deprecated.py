"""Keywords that `wrap` had before options became objects; gone after one release."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from pgmpf_tf._checks import check_number, received
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.scores import criteria
from pgmpf_tf.training.distillation import Distillation

_OF_METHOD = ("dropout", "pretrained")
_OF_CRITERION = ("combine", "normalize")
_OF_DATA = ("data", "loss")
_OF_TEACHER = ("teacher", "temperature")
KEYWORDS = (*_OF_METHOD, *_OF_CRITERION, *_OF_DATA, *_OF_TEACHER)


def translated(
    old: Mapping[str, Any], *, method: Any, criterion: Any, distillation: Any
) -> dict[str, Any]:
    """What the old keywords of `wrap` mean in the new ones.

    Args:
        old: keywords that `wrap` does not have; any of `KEYWORDS`.
        method: the new keyword, as it was passed.
        criterion: the same.
        distillation: the same, or a number as it was once.

    Returns:
        `method`, `criterion` and `distillation`.

    Raises:
        TypeError: if a keyword has never existed, or a value is of a wrong type.
        ValueError: if keywords do not go together, or a value is out of range.
    """
    for name in old:
        if name not in KEYWORDS:
            raise TypeError(f"wrap() got an unexpected keyword argument {name!r}")
    given = {name: value for name, value in old.items() if value is not None}
    return {
        "method": _method(method, _only(given, _OF_METHOD)),
        "criterion": _criterion(criterion, _only(given, _OF_CRITERION + _OF_DATA)),
        "distillation": _distillation(distillation, _only(given, _OF_TEACHER)),
    }


def _only(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _method(method: Any, given: dict[str, Any]) -> Any:
    if not given:
        return method
    options = _spelled(given)
    if isinstance(method, str):
        _warn(given, f"method=pgmpf_tf.PruningConfig.preset({method!r}, {options})")
        return PruningConfig.preset(method, **given)
    if not isinstance(method, PruningConfig):
        return method  # refused later
    if "pretrained" in given:
        raise ValueError(
            "`pretrained` chooses among published constants: write "
            "PruningConfig.preset(name, pretrained=True), or give the config the "
            f"schedules that you want. {received('pretrained', given['pretrained'])}"
        )
    _warn(given, f"method=config.replace({options})")
    return method.replace(**given)


def _criterion(criterion: Any, given: dict[str, Any]) -> Any:
    if not given:
        return criterion
    found = criteria.resolve(criterion)
    if found is criterion:
        raise ValueError(
            f"A Criterion has its options itself: write {type(found).__name__}"
            f"({_spelled(given)}). Received: criterion={criterion!r}, and "
            f"{_spelled(given)} beside it"
        )
    for name in _OF_DATA:
        if name in given and not found.needs_data:
            raise ValueError(
                f"`{name}` is for a criterion that looks at data, such as "
                f"pgmpf_tf.criteria.Taylor(data, loss). Received: {name} of type "
                f"{type(given[name]).__name__}, criterion={criterion!r}"
            )
    positional = [getattr(criterion, "__name__", "function")] * callable(criterion)
    arguments = ", ".join(filter(None, (*positional, _spelled(given))))
    _warn(given, f"criterion=pgmpf_tf.criteria.{type(found).__name__}({arguments})")
    return dataclasses.replace(found, **given)


def _distillation(distillation: Any, given: dict[str, Any]) -> Any:
    number = not (distillation is None or isinstance(distillation, Distillation))
    if not given and not number:
        return distillation
    if isinstance(distillation, Distillation):
        raise ValueError(
            "A Distillation has its options itself: write "
            f"Distillation({_spelled(given)}). Received: "
            f"distillation={distillation!r}, and {_spelled(given)} beside it"
        )
    if number:
        check_number(
            "distillation", distillation, "[0, 1]", "a Distillation or a number"
        )
        given["weight"] = distillation
    if number and not distillation and not given.keys() - {"weight"}:
        _warn({"distillation": 0}, "distillation=None")
        return None
    if "teacher" not in given:
        name = "distillation" if number else "temperature"
        raise ValueError(
            f"`{name}` needs a teacher: pgmpf_tf.Distillation(teacher, ...). "
            f"{received(name, distillation if number else given[name])}"
        )
    _warn(given, f"distillation=pgmpf_tf.Distillation({_spelled(given)})")
    return Distillation(**given)


def _spelled(given: Mapping[str, Any]) -> str:
    """Options as a user would write them: what is no literal by its name."""
    literal = (str, bool, int, float)
    return ", ".join(
        f"{name}={value!r}" if isinstance(value, literal) else name
        for name, value in given.items()
    )


def _warn(given: Mapping[str, Any], instead: str) -> None:
    old = ", ".join(f"`{name}`" for name in given)
    warnings.warn(
        f"The keywords {old} of `wrap` are deprecated and go with the next release. "
        f"Write: {instead}",
        DeprecationWarning,
        stacklevel=5,
    )
