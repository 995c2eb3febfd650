"""`Budget`: how much smaller or faster the network shall be, and how to get there."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

RESOURCES = ("macs", "params", "latency")
STRATEGIES = ("uniform", "global", "sensitivity")


class Drops(Protocol):
    """What the strategy `"sensitivity"` reads of a measurement.

    Attributes:
        groups: names of the groups.
        rates: the fractions of filters that were removed.
        drop: how much worse the model got, array of shape `(groups, rates)`.
    """

    groups: tuple[str, ...]
    rates: tuple[float, ...]
    drop: np.ndarray


@dataclasses.dataclass(frozen=True)
class _LoadedDrops:
    """Drops from a file."""

    groups: tuple[str, ...]
    rates: tuple[float, ...]
    drop: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What part of its cost a network shall lose; `wrap(rate=Budget(...))` takes it.

    `wrap` finds the rates of the groups from the weights as they are then. At the last
    update of the masks the filters that go may be others, and with them the cost: then
    the rates are settled anew, unless a latency is asked for. If several costs are
    given, all are met.

    Example:
        >>> model = pgmpf_tf.wrap(model, rate=pgmpf_tf.Budget(macs=0.5))

    Attributes:
        macs: fraction of the multiply-accumulates to take away, in (0, 1).
        params: fraction of the parameters to take away.
        latency: fraction of the time to take away that one inference takes: measured
            on TFLite files (float32, one thread, batch 1) of candidate networks, on
            this machine. It takes a while, and varies as the machine does.
        strategy: which filters go first. `"uniform"`: every group loses the same
            fraction. `"global"`: all units compete by their scores, each divided by
            the mean of its group. `"sensitivity"`: all groups lose as much as costs
            the same measured accuracy.
        sensitivity: what `pgmpf_tf.sensitivity` measured on this model, for the
            strategy of that name.
        min_keep: the least number of filters (an int of at least 1) or fraction of the
            filters (a float in (0, 1]) that a group keeps; or a mapping from layer-name
            pattern to such values, of which the first that matches counts.
        rates: fixed rates by layer-name pattern, for groups that do not compete.

    Raises:
        ValueError: if there is no cost, a value is out of range, or the strategy is
            unknown or without its measurement.
        TypeError: if a value is of a wrong type.
    """

    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    strategy: str = "uniform"
    sensitivity: Drops | None = None
    min_keep: int | float | Mapping[str, int | float] = 1
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fractions:
            raise ValueError(
                "A Budget needs at least one of `macs`, `params`, `latency`: the "
                "fraction to take away. Received: none"
            )
        for name, value in self.fractions.items():
            _check(name, value, 0.0 < _number(name, value) < 1.0, "lie in (0, 1)")
        if self.strategy not in STRATEGIES:
            allowed = ", ".join(map(repr, STRATEGIES))
            _check("strategy", self.strategy, False, f"be one of {allowed}")
        if self.sensitivity is not None and not all(
            hasattr(self.sensitivity, name) for name in ("groups", "rates", "drop")
        ):
            raise TypeError(
                "`sensitivity` must be what `pgmpf_tf.sensitivity` returned. Received: "
                f"sensitivity={self.sensitivity!r}"
            )
        if (self.strategy == "sensitivity") != (self.sensitivity is not None):
            raise ValueError(
                "`strategy='sensitivity'` and `sensitivity=pgmpf_tf.sensitivity(model, "
                f"data)` belong together. Received: strategy={self.strategy!r}, "
                f"sensitivity={'given' if self.sensitivity else None}"
            )
        for pattern, value in _by_pattern(self.min_keep).items():
            name = "min_keep" if self.min_keep is value else f"min_keep[{pattern!r}]"
            whole = isinstance(value, int)
            number = _number(name, value)
            valid = number >= 1 if whole else 0.0 < number <= 1.0
            _check(name, value, valid, "be an int of at least 1 or a float in (0, 1]")
        for pattern, value in self.rates.items():
            name = f"rates[{pattern!r}]"
            _check(name, value, 0.0 <= _number(name, value) < 1.0, "lie in [0, 1)")

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction to take away of each cost that is given."""
        given = {name: getattr(self, name) for name in RESOURCES}
        return {name: value for name, value in given.items() if value is not None}

    def kept_at_least(self, layers: tuple[str, ...], units: int) -> int:
        """How many of its `units` a group with members in `layers` keeps at least."""
        for pattern, value in _by_pattern(self.min_keep).items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in layers):
                wanted = value if isinstance(value, int) else math.ceil(value * units)
                return min(wanted, units)
        return 1

    @property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        """The layer-name patterns in each argument, each of which must match."""
        keep = self.min_keep
        return {
            "min_keep": tuple(keep) if isinstance(keep, Mapping) else (),
            "rates": tuple(self.rates),
        }

    def get_config(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        config = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.sensitivity is not None:
            table = self.sensitivity
            config["sensitivity"] = {
                "groups": list(table.groups),
                "rates": list(map(float, table.rates)),
                "drop": np.asarray(table.drop, float).tolist(),
            }
        for name in ("min_keep", "rates"):
            if isinstance(config[name], Mapping):
                config[name] = dict(config[name])
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Budget:
        """The inverse of `get_config`."""
        config = dict(config)
        if config["sensitivity"] is not None:
            table = config["sensitivity"]
            config["sensitivity"] = _LoadedDrops(
                tuple(table["groups"]), tuple(table["rates"]), np.array(table["drop"])
            )
        return cls(**config)


def _by_pattern(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"*": value}


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    return value


def _check(name: str, value: Any, valid: bool, allowed: str) -> None:
    if not valid:
        raise ValueError(f"`{name}` must {allowed}. Received: {name}={value!r}")
