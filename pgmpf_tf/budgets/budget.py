"""`Budget`: how much smaller or faster the network shall be, and how to get there."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from pgmpf_tf._checks import (
    check_choice,
    check_integer,
    check_mapping,
    check_number,
    check_type,
    received,
)
from pgmpf_tf._patterns import first_match
from pgmpf_tf.budgets.latency import LatencyTable, load_table
from pgmpf_tf.budgets.rates import check_rate

RESOURCES = ("macs", "params", "latency")
STRATEGIES = ("uniform", "global", "sensitivity")


class Drops(Protocol):
    """What the strategy `"sensitivity"` reads of a measurement."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""

    @property
    def rates(self) -> tuple[float, ...]:
        """The fractions of filters that were removed."""

    @property
    def drop(self) -> np.ndarray:
        """How much worse the model got, array of shape `(groups, rates)`."""


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
    the rates are settled anew, unless a latency has to be measured. If several costs
    are given, all are met.

    Example:
        >>> model = pgmpf_tf.wrap(model, rate=pgmpf_tf.Budget(macs=0.5))

    Attributes:
        macs: fraction of the multiply-accumulates to take away, in (0, 1).
        params: fraction of the parameters to take away.
        latency: fraction of the time to take away that one inference takes. With a
            `latency_table` it is predicted for the runtime that the table is of;
            without, measured on TFLite files (float32, one thread, batch 1) of
            candidate networks, on this machine. That takes a while, and varies as the
            machine does.
        latency_table: what `pgmpf_tf.measure` has measured on this model, here or on
            the machine that it is for: the table, or the path of its file.
        strategy: which filters go first. `"uniform"`: every group loses the same
            fraction. `"global"`: all units compete by their scores, each divided by
            the mean of its group. `"sensitivity"`: filters go where the least measured
            accuracy is lost for what is saved. What is lost is taken to grow with the
            logarithm of a group's width at least, also where the network is so bad
            already that nothing more can be measured.
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
    latency_table: LatencyTable | str | os.PathLike[str] | None = None
    strategy: str = "uniform"
    sensitivity: Drops | None = None
    min_keep: int | float | Mapping[str, int | float] = 1
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.fractions.items():
            self._set(name, check_number(name, value, "(0, 1)", "a fraction"))
        if not self.fractions:
            raise ValueError(
                "A Budget needs at least one of `macs`, `params` and `latency`: the "
                "fraction to take away. Received: macs=None, params=None, latency=None"
            )
        self._set("latency_table", self._loaded_table())
        check_choice("strategy", self.strategy, STRATEGIES)
        self._check_sensitivity()
        self._set("min_keep", _min_keep(self.min_keep))
        rates = self.rates
        check_type("rates", rates, Mapping, "a mapping from layer-name pattern to rate")
        self._set("rates", check_rate("rates", rates) if rates else {})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _loaded_table(self) -> LatencyTable | None:
        table = self.latency_table
        if table is None or isinstance(table, LatencyTable):
            loaded = table
        else:
            loaded = load_table("latency_table", table)
        if loaded is not None and self.latency is None:
            raise ValueError(
                "`latency_table` must be None without a `latency`. Received: "
                "latency_table given, latency=None"
            )
        return loaded

    def _check_sensitivity(self) -> None:
        table = self.sensitivity
        if table is not None and not all(
            hasattr(table, name) for name in ("groups", "rates", "drop")
        ):
            raise TypeError(
                "`sensitivity` must be what `pgmpf_tf.sensitivity` returned. "
                f"{received('sensitivity', table)}"
            )
        if (self.strategy == "sensitivity") != (table is not None):
            raise ValueError(
                "`sensitivity` must be what `pgmpf_tf.sensitivity(model, data)` "
                "returned for `strategy='sensitivity'`, and None for others. Received: "
                f"strategy={self.strategy!r}, sensitivity="
                f"{'None' if table is None else 'given'}"
            )

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction to take away of each cost that is given."""
        given = {name: getattr(self, name) for name in RESOURCES}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def table(self) -> LatencyTable | None:
        """The table that predicts the latency, if there is one."""
        table = self.latency_table
        return table if isinstance(table, LatencyTable) else None

    @property
    def predictable(self) -> bool:
        """Whether what a network costs is known without measuring it."""
        return self.latency is None or self.table is not None

    def kept_at_least(self, names: Collection[str], count: int) -> int:
        """How many of its units a group keeps at least.

        Args:
            names: the names by which patterns find it.
            count: how many units it has.
        """
        least = self.min_keep
        if isinstance(least, Mapping):
            least = first_match(least, names) or 1
        if isinstance(least, float):
            least = math.ceil(least * count)
        return min(least, count)

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
        if self.table is not None:
            config["latency_table"] = self.table.to_dict()
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
        if config.get("latency_table") is not None:
            config["latency_table"] = LatencyTable.from_dict(
                config["latency_table"], "latency_table"
            )
        return cls(**config)


def _min_keep(least: Any) -> int | float | dict[str, int | float]:
    if not isinstance(least, Mapping):
        return _least("min_keep", least)
    check_mapping("min_keep", least, "from layer-name pattern to what is kept at least")
    return {
        pattern: _least(f"min_keep[{pattern!r}]", value)
        for pattern, value in least.items()
    }


def _least(name: str, value: Any) -> int | float:
    if isinstance(value, numbers.Integral):
        return check_integer(name, value, 1)
    return check_number(name, value, "(0, 1]", "an int of at least 1 or a fraction")
