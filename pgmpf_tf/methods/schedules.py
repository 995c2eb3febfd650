"""Schedules: how the rate, the weight mask and the suppression go over a run.

A schedule is a pure function of *progress*, the fraction of a run's training steps
that are done, from 0 to 1. It gives a fraction, too: of the pruning rate that is to be
reached, of a pruned weight that is left, of a pruned filter's gradient that is kept
back.

    >>> from pgmpf_tf import schedules
    >>> rise = schedules.cubic(end=0.4)
    >>> rise(0.0), rise(0.2), rise(0.4)
    (0.0, 0.875, 1.0)

`begin` and `end` compress a schedule into a part of the run; they never cut anything
off. `scaled` and `within` make schedules of schedules. A number is a constant schedule
wherever a schedule is expected, and so is a function of progress of one's own.

A value holds until the masks are updated the next time, so a schedule also gets how
far away that is: most take their value from there, and the first update of a run
already prunes. The schedules of the published methods, `published_...`, are functions
of the epoch t of T, and so of t / T: see there.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec

import keras
import numpy as np

from pgmpf_tf._checks import check_callable, check_integer, check_number, received

# Guards `progress >= end` against the rounding of both.
_EPSILON = 1e-9

P = ParamSpec("P")


class Curve(NamedTuple):
    """What a form of schedule consists of.

    Attributes:
        function: from progress, and how far ahead the next update is, to the value.
        begin: before this progress the value stays what it is at 0.
        end: from this progress on the value stays what it is at 1.
    """

    function: Callable[[float, float], float]
    begin: float
    end: float


class Schedule:
    """A value in [0, 1] for every moment of a run.

    Made by the functions of this module. Equal arguments make equal schedules.

    Attributes:
        begin: before this progress the value stays what it is at 0.
        end: from this progress on the value stays what it is at 1.
    """

    def __init__(self, form: str, arguments: Mapping[str, Any], curve: Curve) -> None:
        self._form = form
        self._arguments = dict(arguments)
        self._function, self.begin, self.end = curve

    def __call__(self, progress: float, ahead: float = 0.0) -> float:
        """The value.

        Args:
            progress: fraction of the run's steps that are done, in [0, 1].
            ahead: how much further the run will be at the next update of the masks,
                until which the value holds.
        """
        return self._function(progress, ahead)

    def get_config(self) -> dict[str, Any]:
        """The form and its arguments as a dictionary that JSON can hold."""
        arguments = {name: _to_json(value) for name, value in self._arguments.items()}
        return {"form": self._form, **arguments}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Schedule:
        """The inverse of `get_config`.

        Raises:
            ValueError: if there is no such form, or an argument is out of range.
        """
        arguments = dict(config)
        form = arguments.pop("form", None)
        if form not in FORMS:
            raise ValueError(
                f"`form` must be one of {', '.join(map(repr, FORMS))}. "
                f"{received('form', form)}"
            )
        return FORMS[form](**{k: _from_json(v) for k, v in arguments.items()})

    def __repr__(self) -> str:
        defaults = inspect.signature(FORMS[self._form]).parameters
        arguments = (
            f"{name}={getattr(value, '__name__', repr(value))}"
            for name, value in self._arguments.items()
            if value != defaults[name].default
        )
        return f"pgmpf_tf.schedules.{self._form}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self._form, self._arguments) == (other._form, other._arguments)

    def __hash__(self) -> int:
        return hash((self._form, *self._arguments.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._form, self._arguments)


FORMS: dict[str, Callable[..., Schedule]] = {}
"""The functions that make schedules, by name."""


def _form(make: Callable[P, Curve]) -> Callable[P, Schedule]:
    """Lets a function that makes a curve make a schedule that knows its arguments."""

    @functools.wraps(make)
    def build(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = inspect.signature(make).bind(*args, **kwargs)
        bound.apply_defaults()
        curve = make(*args, **kwargs)
        return Schedule(make.__name__, bound.arguments, curve)

    FORMS[make.__name__] = build
    return build


def as_schedule(name: str, value: Any) -> Schedule:
    """A schedule from what a caller passed.

    Args:
        name: the caller's argument.
        value: a schedule, a number (a constant), or a function of progress.

    Raises:
        TypeError: if it is none of these.
        ValueError: if it leaves [0, 1].
    """
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return custom(value)
    allowed = "a schedule, a function of progress, or a number"
    return constant(check_number(name, value, "[0, 1]", allowed))


@_form
def constant(level: float) -> Curve:
    """The same value at all times."""
    level = check_number("level", level, "[0, 1]")
    return Curve(lambda progress, ahead: level, 0.0, 0.0)


@_form
def linear(begin: float = 0.0, end: float = 1.0) -> Curve:
    """From 0 at `begin` to 1 at `end`, by equal steps."""
    return _between(lambda u: u, begin, end)


@_form
def cubic(begin: float = 0.0, end: float = 1.0) -> Curve:
    """From 0 to 1, fast at first: 1 - (1 - u)^3.

    u is the progress between `begin` and `end`. As the sparsity in M. Zhu and
    S. Gupta, "To prune, or not to prune", 2017, equation 1.
    """
    return _between(_cubic, begin, end)


@_form
def cosine(begin: float = 0.0, end: float = 1.0) -> Curve:
    """From 0 to 1 along half a wave: (1 - cos(pi u)) / 2."""
    return _between(lambda u: 0.5 - 0.5 * math.cos(math.pi * u), begin, end)


@_form
def exponential(depth: float = 0.125, begin: float = 0.0, end: float = 1.0) -> Curve:
    """From 0 to 1, very fast at first: (1 - 4^(-u / depth)) / (1 - 4^(-1 / depth)).

    Args:
        depth: the part of the way after which three quarters are reached, nearly.
        begin: progress until which it is 0.
        end: progress from which it is 1.
    """
    depth = check_number("depth", depth, "(0, 1]")
    whole = 1.0 - 4.0 ** (-1.0 / depth)
    return _between(lambda u: (1.0 - 4.0 ** (-u / depth)) / whole, begin, end)


@_form
def decay(floor: float = 1e-3, begin: float = 0.0, end: float = 1.0) -> Curve:
    """From 1 to 0, exponentially: (floor^u - floor) / (1 - floor)."""
    floor = check_number("floor", floor, "(0, 1)")
    return _between(lambda u: (floor**u - floor) / (1.0 - floor), begin, end)


@_form
def scaled(schedule: Schedule, first: float, last: float) -> Curve:
    """Another schedule's way from 0 to 1 as a way from `first` to `last`."""
    first = check_number("first", first, "[0, 1]")
    last = check_number("last", last, "[0, 1]")
    inner = as_schedule("schedule", schedule)
    return Curve(
        lambda progress, ahead: first + (last - first) * inner(progress, ahead),
        inner.begin,
        inner.end,
    )


@_form
def within(schedule: Schedule, begin: float = 0.0, end: float = 1.0) -> Curve:
    """Another schedule, compressed into the progress from `begin` to `end`."""
    inner = as_schedule("schedule", schedule)
    curve = _between(lambda u: inner(u), begin, end)
    length = end - begin
    return curve._replace(
        begin=begin + length * inner.begin, end=begin + length * inner.end
    )


@_form
def custom(function: Callable[[float], float]) -> Curve:
    """A function of progress of one's own.

    Args:
        function: from progress to a value in [0, 1]. To be saved with a model, it must
            be registered (`keras.saving.register_keras_serializable`).

    Raises:
        ValueError: if it leaves [0, 1].
    """
    check_callable("function", function, "a function of progress")
    # Where it stands still at both ends is not known, so it is looked up.
    grid = np.linspace(0.0, 1.0, 1001).tolist()
    values = [
        check_number("function(progress)", float(function(x)), "[0, 1]") for x in grid
    ]
    moving = [i for i, value in enumerate(values) if value != values[-1]]
    still = next((i for i, v in enumerate(values) if v != values[0]), 1)
    end = grid[moving[-1] + 1] if moving else 0.0
    return Curve(
        lambda progress, ahead: float(function(min(progress + ahead, 1.0))),
        grid[still - 1],
        end,
    )


@_form
def published_exponential(depth: float = 0.125, end: float = 0.9) -> Curve:
    """P_t / P of the exponential form: 1 - exp(-k t), k = ln 4 / (depth T).

    It is 1 from t = `end` T on. Y. He et al., "Asymptotic Soft Filter Pruning", 2018.
    """
    depth = check_number("depth", depth, "(0, 1]")
    end = check_number("end", end, "(0, 1]")

    def function(progress: float, ahead: float) -> float:
        if progress >= end - _EPSILON:
            return 1.0
        return 1.0 - 4.0 ** (-progress / depth)

    return Curve(function, 0.0, end)


@_form
def published_cubic(end: float = 0.9) -> Curve:
    """P_t / P or lambda_t of the cubic form: 1 - (1 - (t + 1) / T)^3.

    It is 1 from t = `end` T on. L. Cai et al., "Prior Gradient Mask Guided
    Pruning-Aware Fine-Tuning", AAAI 2022.
    """
    end = check_number("end", end, "(0, 1]")

    def function(progress: float, ahead: float) -> float:
        if progress >= end - _EPSILON:
            return 1.0
        return _cubic(min(progress + ahead, 1.0))

    return Curve(function, 0.0, end)


@_form
def published_cosine(period: float = 0.9, end: float = 0.9) -> Curve:
    """lambda_t of the cosine form: 1 - (1 + cos(pi t / (period T))) / 2.

    It is 1 from t = `end` T on. Source as for `published_cubic`.
    """
    period = check_number("period", period, "(0, 1]")
    end = min(check_number("end", end, "(0, 1]"), period)

    def function(progress: float, ahead: float) -> float:
        if progress >= end - _EPSILON:
            return 1.0
        return 0.5 - 0.5 * math.cos(math.pi * progress / period)

    return Curve(function, 0.0, end)


@_form
def published_decay(
    initial: float = 1.0, floor: float = 1e-3, end: float = 0.8
) -> Curve:
    """a_t: a_0 exp(-kappa t), kappa = -ln(s / (a_0 + 0.01 s)) / T.

    It is 0 from t = `end` T on. Source as for `published_cubic`.

    Args:
        initial: a_0.
        floor: s, below a_0: the value that the exponential would end near.
        end: fraction of the epochs after which it is 0.
    """
    initial = check_number("initial", initial, "(0, 1]")
    floor = check_number("floor", floor, f"(0, {initial})")
    end = check_number("end", end, "(0, 1]")
    kappa = -math.log(floor / (initial + 0.01 * floor))

    def function(progress: float, ahead: float) -> float:
        if progress >= end - _EPSILON:
            return 0.0
        return initial * math.exp(-kappa * progress)

    return Curve(function, 0.0, end)


class EveryEpochs(NamedTuple):
    """Updates of the masks as the papers have them. See `every_epochs`."""

    epochs: int

    def __repr__(self) -> str:
        return f"pgmpf_tf.schedules.every_epochs({self.epochs})"


def every_epochs(count: int = 1) -> EveryEpochs:
    """Updates before the first epoch and after every `count`-th, as published.

    Three more things are then as the papers have them: the update after epoch t has the
    values of t; floor(n P_t) of n filters are masked; and a_t multiplies the weights
    as they are, at every update anew, so that it compounds.

    Args:
        count: number of epochs, at least 1.
    """
    return EveryEpochs(check_integer("count", count, 1))


def _cubic(u: float) -> float:
    return 1.0 - (1.0 - u) ** 3


def _between(form: Callable[[float], float], begin: float, end: float) -> Curve:
    """A form on [0, 1] as a curve that looks ahead to the next update."""
    end = check_number("end", end, "(0, 1]")
    begin = check_number("begin", begin, f"[0, {end})")

    def function(progress: float, ahead: float) -> float:
        u = (progress + ahead - begin) / (end - begin)
        # Where a schedule has ended it must be exactly what it ends with.
        return form(1.0 if u > 1.0 - _EPSILON else max(u, 0.0))

    return Curve(function, begin, end)


def _to_json(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.get_config()
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "form" in value:
        return Schedule.from_config(value)
    return keras.saving.deserialize_keras_object(dict(value))


def _rebuilt(form: str, arguments: Mapping[str, Any]) -> Schedule:
    """For pickle, which cannot look into a curve."""
    return FORMS[form](**arguments)
