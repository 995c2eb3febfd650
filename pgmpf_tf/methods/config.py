"""`PruningConfig`: one point of the space of pruning-aware training methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pgmpf_tf.methods import schedules

RATE_FORMS = ("constant", "exponential", "polynomial")
SUPPRESSION_FORMS = ("constant", "cubic", "cosine")
FREQUENCY_UNITS = ("epoch", "step")

# The published constants differ between training from scratch and from a trained model.
_FLOOR_SCRATCH, _FLOOR_PRETRAINED = 1e-3, 1e-5
_END_SCRATCH, _END_PRETRAINED = 0.9, 0.8


@dataclasses.dataclass(frozen=True)
class PruningConfig:
    """How masks, pruned weights and pruned gradients develop over the epochs.

    The defaults are PGMPF. `PruningConfig.preset(name)` gives the other members of the
    family; they are points of the same space.

    Example:
        >>> config = PruningConfig.preset("asfp", pretrained=True)
        >>> config.weight_mask_at(0, total=100)
        0.0

    Attributes:
        rate_schedule: form of P_t: `"exponential"`, `"polynomial"` or `"constant"`.
        rate_depth: fraction of the epochs in which the exponential reaches 3/4 P (D).
        rate_end: fraction of the epochs after which P_t is P.
        weight_mask_start: a_0. 0 sets pruned filters to zero at every update.
        weight_mask_floor: where the decay of a_t ends (s). None takes 1e-3, or 1e-5 if
            `pretrained`.
        weight_mask_end: fraction of the epochs after which a_t is 0.
        suppression_schedule: form of lambda_t: `"cubic"`, `"cosine"` or `"constant"`.
        suppression_level: lambda of the form `"constant"`.
        suppression_end: fraction of the epochs after which lambda_t is 1. None takes
            0.9, or 0.8 if `pretrained`. The form `"constant"` has no end.
        cosine_period: fraction of the epochs that the half cosine takes.
        dropout: probability with which, in one step, the gradient of a pruned filter is
            dropped altogether (1 - the keep probability of the prior mask).
        frequency: masks are updated every so many epochs or steps.
        frequency_unit: `"epoch"` or `"step"`.
        pretrained: whether training starts from a trained model (warm start).
        kernels_only: whether updates before the last one prune kernels alone, and leave
            the biases and BatchNorm parameters that follow them. A filter that is zero
            together with its gamma and beta gets no gradient through a ReLU, so with
            a_t = 0 it can come back only if this is True. The last update always
            prunes everything.
    """

    rate_schedule: str = "exponential"
    rate_depth: float = 0.125
    rate_end: float = 0.9
    weight_mask_start: float = 1.0
    weight_mask_floor: float | None = None
    weight_mask_end: float = 0.8
    suppression_schedule: str = "cubic"
    suppression_level: float = 0.0
    suppression_end: float | None = None
    cosine_period: float = 0.9
    dropout: float = 0.5
    frequency: int = 1
    frequency_unit: str = "epoch"
    pretrained: bool = False
    kernels_only: bool = False

    def __post_init__(self) -> None:
        _check_choice("rate_schedule", self.rate_schedule, RATE_FORMS)
        _check_choice(
            "suppression_schedule", self.suppression_schedule, SUPPRESSION_FORMS
        )
        _check_choice("frequency_unit", self.frequency_unit, FREQUENCY_UNITS)
        for name in ("rate_depth", "rate_end", "weight_mask_end", "cosine_period"):
            _check_fraction(name, getattr(self, name), positive=True)
        for name in ("weight_mask_start", "suppression_level", "dropout"):
            _check_fraction(name, getattr(self, name))
        for name in ("weight_mask_floor", "suppression_end"):
            if getattr(self, name) is not None:
                _check_fraction(name, getattr(self, name), positive=True)
        if 0.0 < self.weight_mask_start <= self._floor:
            raise ValueError(
                "`weight_mask_start` must be 0 or greater than the floor that the "
                f"weight mask decays to, {self._floor}. Received: "
                f"weight_mask_start={self.weight_mask_start}"
            )
        if isinstance(self.frequency, bool) or not isinstance(self.frequency, int):
            raise TypeError(
                f"`frequency` must be an int. Received: frequency={self.frequency!r}"
            )
        if self.frequency < 1:
            raise ValueError(
                f"`frequency` must be at least 1. Received: frequency={self.frequency}"
            )
        for name in ("pretrained", "kernels_only"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"`{name}` must be a bool. Received: {name}={getattr(self, name)!r}"
                )

    @property
    def _floor(self) -> float:
        if self.weight_mask_floor is not None:
            return self.weight_mask_floor
        return _FLOOR_PRETRAINED if self.pretrained else _FLOOR_SCRATCH

    @classmethod
    def preset(cls, name: str, **changes: Any) -> PruningConfig:
        """A published method by name.

        Args:
            name: one of `PRESETS`: `"hard"`, `"sfp"`, `"asfp"`, `"asrfp"`, `"pgmpf"`,
                `"pgmpf_no_dropout"`.
            **changes: fields that differ from the preset.

        Returns:
            The configuration.

        Raises:
            ValueError: if there is no such preset, or a value is out of range.
        """
        _check_choice("method", name, tuple(PRESETS))
        return cls(**{**PRESETS[name], **changes})

    def rate_at(self, t: float, total: float, rate: float) -> float:
        """P_t for the pruning rate `rate` at epoch `t` of `total`."""
        if self.rate_schedule == "constant":
            return schedules.constant_rate(t, total, rate)
        if self.rate_schedule == "polynomial":
            return schedules.polynomial_rate(t, total, rate, end=self.rate_end)
        return schedules.exponential_rate(
            t, total, rate, depth=self.rate_depth, end=self.rate_end
        )

    def weight_mask_at(self, t: float, total: float) -> float:
        """a_t at epoch `t` of `total`."""
        return schedules.weight_mask(
            t,
            total,
            initial=self.weight_mask_start,
            floor=self._floor,
            end=self.weight_mask_end,
        )

    def suppression_at(self, t: float, total: float) -> float:
        """lambda_t at epoch `t` of `total`."""
        if self.suppression_schedule == "constant":
            return schedules.constant_suppression(
                t, total, level=self.suppression_level
            )
        end = self.suppression_end
        if end is None:
            end = _END_PRETRAINED if self.pretrained else _END_SCRATCH
        if self.suppression_schedule == "cosine":
            return schedules.cosine_suppression(
                t, total, period=self.cosine_period, end=end
            )
        return schedules.cubic_suppression(t, total, end=end)

    def replace(self, **changes: Any) -> PruningConfig:
        """A copy in which the named fields differ."""
        return dataclasses.replace(self, **changes)

    def get_config(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

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
        return cls(**config)


_HARD_WEIGHTS = {"weight_mask_start": 0.0}
_FREE_GRADIENTS = {
    "suppression_schedule": "constant",
    "suppression_level": 0.0,
    "dropout": 0.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "hard": {
        "rate_schedule": "constant",
        "suppression_schedule": "constant",
        "suppression_level": 1.0,
        "dropout": 0.0,
        **_HARD_WEIGHTS,
    },
    "sfp": {"rate_schedule": "constant", **_HARD_WEIGHTS, **_FREE_GRADIENTS},
    "asfp": {**_HARD_WEIGHTS, **_FREE_GRADIENTS},
    "asrfp": dict(_FREE_GRADIENTS),
    "pgmpf_no_dropout": {"dropout": 0.0},
    "pgmpf": {},
}
"""The published methods, by what they change of the defaults."""


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. "
            f"Received: {name}={value!r}"
        )


def _check_fraction(name: str, value: Any, positive: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    if not 0.0 <= value <= 1.0 or (positive and value == 0.0):
        interval = "(0, 1]" if positive else "[0, 1]"
        raise ValueError(f"`{name}` must lie in {interval}. Received: {name}={value}")
