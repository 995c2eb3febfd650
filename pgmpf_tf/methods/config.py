"""`PruningConfig`: one point of the space of pruning-aware training methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pgmpf_tf._checks import (
    check_bool,
    check_choice,
    check_integer,
    check_number,
    received,
)
from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.schedules import EveryEpochs, Schedule, as_schedule

_RATE = schedules.cubic(end=0.3)
_WEIGHT_MASK = schedules.constant(0.0)
_SUPPRESSION = schedules.constant(1.0)

SCHEDULES = ("rate", "weight_mask", "suppression")


@dataclasses.dataclass(frozen=True)
class PruningConfig:
    """How masks, pruned weights and pruned gradients develop over a run.

    `PruningConfig.preset(name)` gives the methods of the family by name; they are
    points of the same space.

    Example:
        >>> from pgmpf_tf import PruningConfig, schedules
        >>> config = PruningConfig(
        ...     rate=schedules.cubic(end=0.4),
        ...     weight_mask=schedules.decay(end=0.4),
        ... )
        >>> config.replace(dropout=0.5).suppression(0.2)
        1.0

    Attributes:
        rate: the part of the pruning rate that is reached (P_t / P), from 0 to 1.
        weight_mask: what is left of a filter's weights once it is masked (a_t), down
            to 0. Constantly 0 sets masked filters to zero at once. With updates every
            few steps a filter that is masked all along has a_t times the weights that
            it would have had, however many updates there were; with `every_epochs` a_t
            compounds.
        suppression: how much of a masked filter's gradient, or of its step, is kept
            back (lambda_t). 1 lets nothing pass.
        dropout: probability with which, in one step, a masked filter's gradient is
            dropped altogether (1 - the keep probability of the prior mask).
        updates: how many times the masks are updated from the begin of the schedules to
            their end, at equal distances of steps; `"auto"` takes as many as the
            number of steps allows at next to no cost. `schedules.every_epochs()`
            updates them as the papers do.
        kernels_only: whether updates before the last one prune kernels alone, and leave
            the biases and BatchNorm parameters that follow them. A filter that is zero
            together with its gamma and beta gets no gradient through a ReLU, so with
            a_t = 0 it can come back only if this is True. It may then come back with
            force: BatchNorm divides by what is left, so that one step can give a filter
            that was zero many times the norm of all others, and criteria that look at
            norms keep it for that. The last update always prunes everything.
    """

    rate: Schedule = _RATE
    weight_mask: Schedule = _WEIGHT_MASK
    suppression: Schedule = _SUPPRESSION
    dropout: float = 0.0
    updates: str | int | EveryEpochs = "auto"
    kernels_only: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: as_schedule(name, getattr(self, name)) for name in SCHEDULES
        }
        checked["dropout"] = check_number("dropout", self.dropout, "[0, 1]")
        checked["kernels_only"] = check_bool("kernels_only", self.kernels_only)
        checked["updates"] = _checked_updates(self.updates)
        for name, value in checked.items():
            # Frozen: users may pass numbers and functions, readers find schedules.
            object.__setattr__(self, name, value)
        for name, last in (("rate", 1.0), ("weight_mask", 0.0)):
            value = getattr(self, name)(1.0)
            if value != last:
                raise ValueError(
                    f"`{name}` must be {last:g} at the end of the run, at progress 1; "
                    f"there it is {value}. {received(name, getattr(self, name))}"
                )

    @classmethod
    def preset(
        cls, name: str, *, pretrained: bool = False, **changes: Any
    ) -> PruningConfig:
        """A method by name.

        Args:
            name: one of `PRESETS`. `"pgmpf"` is the default of `wrap`. `"gradual"` is
                gradual pruning (M. Zhu and S. Gupta, 2017). As published, with updates
                after every epoch: `"pgmpf_published"` (L. Cai et al., 2022),
                `"pgmpf_no_dropout"`, `"asrfp"`, `"asfp"`, `"sfp"` and `"hard"`.
            pretrained: whether the network is trained already: some of the published
                constants differ then.
            **changes: fields that differ from the preset.

        Returns:
            The configuration.

        Raises:
            ValueError: if there is no such preset, or a value is out of range.
        """
        check_choice("name", name, PRESETS)
        fields = PRESETS[name](check_bool("pretrained", pretrained))
        return cls(**{**fields, **changes})

    @property
    def begin(self) -> float:
        """The progress before which nothing is masked."""
        return self.rate.begin if self.rate(0.0) == 0.0 else 0.0

    @property
    def end(self) -> float:
        """The progress from which nothing changes any more."""
        if not self.final(1.0):
            return 1.0  # the last update of all makes it final
        return max(getattr(self, name).end for name in SCHEDULES)

    def final(self, progress: float, ahead: float = 0.0) -> bool:
        """Whether all filters are masked that will be, are zero, and stay zero."""
        return (
            self.rate(progress, ahead) == 1.0
            and self.weight_mask(progress, ahead) == 0.0
            and self.suppression(progress, ahead) == 1.0
        )

    def replace(self, **changes: Any) -> PruningConfig:
        """A copy in which the named fields differ."""
        return dataclasses.replace(self, **changes)

    def get_config(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        config = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        config.update({name: config[name].get_config() for name in SCHEDULES})
        if isinstance(self.updates, EveryEpochs):
            config["updates"] = {"every_epochs": self.updates.epochs}
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PruningConfig:
        """The inverse of `get_config`.

        Raises:
            ValueError: if a key is not a field, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ValueError(
                f"A PruningConfig has no fields {unknown}. Allowed: {sorted(known)}"
            )
        fields = dict(config)
        for name in set(SCHEDULES) & set(fields):
            if isinstance(fields[name], Mapping):
                fields[name] = Schedule.from_config(fields[name])
        if isinstance(fields.get("updates"), Mapping):
            fields["updates"] = EveryEpochs(fields["updates"]["every_epochs"])
        return cls(**fields)


def _checked_updates(value: Any) -> str | int | EveryEpochs:
    if isinstance(value, EveryEpochs):
        return schedules.every_epochs(value.epochs)
    if isinstance(value, str):
        return check_choice("updates", value, ("auto",))
    return check_integer("updates", value, 1)


def _published(
    rate: Schedule, weight_mask: Schedule, suppression: Schedule, dropout: float
) -> dict[str, Any]:
    return {
        "rate": rate,
        "weight_mask": weight_mask,
        "suppression": suppression,
        "dropout": dropout,
        "updates": schedules.every_epochs(),
    }


def _pgmpf_published(pretrained: bool, dropout: float = 0.5) -> dict[str, Any]:
    return _published(
        schedules.published_exponential(),
        schedules.published_decay(floor=1e-5 if pretrained else 1e-3),
        schedules.published_cubic(end=0.8 if pretrained else 0.9),
        dropout,
    )


def _soft(rate: Schedule, weight_mask: Schedule) -> dict[str, Any]:
    """The methods whose masked filters learn like all others."""
    return _published(rate, weight_mask, schedules.constant(0.0), 0.0)


def _hard(pretrained: bool) -> dict[str, Any]:
    one, zero = schedules.constant(1.0), schedules.constant(0.0)
    return _published(rate=one, weight_mask=zero, suppression=one, dropout=0.0)


def _sfp(pretrained: bool) -> dict[str, Any]:
    return _soft(schedules.constant(1.0), schedules.constant(0.0))


def _asfp(pretrained: bool) -> dict[str, Any]:
    return _soft(schedules.published_exponential(), schedules.constant(0.0))


def _asrfp(pretrained: bool) -> dict[str, Any]:
    floor = 1e-5 if pretrained else 1e-3
    return _soft(
        schedules.published_exponential(), schedules.published_decay(floor=floor)
    )


def _gradual(pretrained: bool) -> dict[str, Any]:
    return {
        "rate": schedules.cubic(end=0.3),
        "weight_mask": schedules.constant(0.0),
        "suppression": schedules.constant(1.0),
    }


PRESETS: Mapping[str, Callable[[bool], Mapping[str, Any]]] = {
    "pgmpf": lambda pretrained: {},
    "gradual": _gradual,
    "hard": _hard,
    "sfp": _sfp,
    "asfp": _asfp,
    "asrfp": _asrfp,
    "pgmpf_no_dropout": lambda pretrained: _pgmpf_published(pretrained, 0.0),
    "pgmpf_published": _pgmpf_published,
}
"""The methods by name: from whether the network is trained to the fields."""
