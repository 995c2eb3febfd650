"""The three schedules of pruning-aware training: pure functions of progress.

Each is a function of the epoch `t` (counted from 0; it may be fractional) and the
number of epochs `total`. All of them hold their end value once they have reached it,
so a run that goes on after the schedule's end changes nothing any more.

Source of the formulas: L. Cai et al., "Prior Gradient Mask Guided Pruning-Aware
Fine-Tuning", AAAI 2022; the exponential rate is that of asymptotic soft filter pruning
(Y. He et al., 2018).
"""

from __future__ import annotations

import math

# Guards `t >= end * total` against the rounding of the product.
_EPSILON = 1e-9


def _cubic(x: float) -> float:
    return 1.0 - (1.0 - min(x, 1.0)) ** 3


def _ended(t: float, total: float, end: float) -> bool:
    return t >= end * total - _EPSILON


def constant_rate(t: float, total: float, rate: float) -> float:
    """The whole pruning rate from the start.

    Args:
        t: epoch, from 0.
        total: number of epochs.
        rate: pruning rate P, the fraction of filters removed in the end.

    Returns:
        `rate`.
    """
    return rate


def exponential_rate(
    t: float, total: float, rate: float, *, depth: float = 0.125, end: float = 0.9
) -> float:
    """Pruning rate that rises fast: P (1 - exp(-k t)), k = ln 4 / (depth * total).

    Args:
        t: epoch, from 0.
        total: number of epochs.
        rate: pruning rate P, the fraction of filters removed in the end.
        depth: fraction of the epochs after which three quarters of P are reached (D).
        end: fraction of the epochs after which it is P exactly.

    Returns:
        The pruning rate at `t`, in [0, rate].
    """
    if _ended(t, total, end):
        return rate
    return rate * (1.0 - math.exp(-math.log(4.0) / (depth * total) * t))


def polynomial_rate(t: float, total: float, rate: float, *, end: float = 0.9) -> float:
    """Pruning rate that follows a cubic: P (1 - (1 - (t + 1) / total)^3).

    Args:
        t: epoch, from 0.
        total: number of epochs.
        rate: pruning rate P, the fraction of filters removed in the end.
        end: fraction of the epochs after which it is P exactly.

    Returns:
        The pruning rate at `t`, in [0, rate].
    """
    if _ended(t, total, end):
        return rate
    return rate * _cubic((t + 1.0) / total)


def weight_mask(
    t: float,
    total: float,
    *,
    initial: float = 1.0,
    floor: float = 1e-3,
    end: float = 0.8,
) -> float:
    """What a pruned filter is multiplied by: a_0 exp(-kappa t), then 0.

    kappa = -ln(floor / (a_0 + 0.01 floor)) / total.

    Args:
        t: epoch, from 0.
        total: number of epochs.
        initial: a_0, the value at epoch 0. 0 stays 0: hard masks from the start.
        floor: the value that the exponential would reach at `total` (s).
        end: fraction of the epochs after which it is 0 exactly.

    Returns:
        The weight mask a_t, in [0, initial].
    """
    if initial == 0.0 or _ended(t, total, end):
        return 0.0
    kappa = -math.log(floor / (initial + 0.01 * floor)) / total
    return initial * math.exp(-kappa * t)


def constant_suppression(t: float, total: float, *, level: float) -> float:
    """The same suppression in every epoch.

    Args:
        t: epoch, from 0.
        total: number of epochs.
        level: 0 lets pruned filters learn like all others, 1 stops them.

    Returns:
        `level`.
    """
    return level


def cubic_suppression(t: float, total: float, *, end: float = 0.9) -> float:
    """Suppression that rises from the first epoch on: 1 - (1 - (t + 1) / total)^3.

    Args:
        t: epoch, from 0.
        total: number of epochs.
        end: fraction of the epochs after which it is 1 exactly.

    Returns:
        The suppression lambda_t of the gradients of pruned filters, in [0, 1].
    """
    return 1.0 if _ended(t, total, end) else _cubic((t + 1.0) / total)


def cosine_suppression(
    t: float, total: float, *, period: float = 0.9, end: float = 0.9
) -> float:
    """Suppression along half a cosine: 1 - (1 + cos(pi t / (period * total))) / 2.

    Args:
        t: epoch, from 0.
        total: number of epochs.
        period: fraction of the epochs that the half wave takes.
        end: fraction of the epochs after which it is 1 exactly.

    Returns:
        The suppression lambda_t of the gradients of pruned filters, in [0, 1].
    """
    if _ended(t, total, min(end, period)):
        return 1.0
    return 1.0 - 0.5 * (1.0 + math.cos(math.pi * t / (period * total)))
