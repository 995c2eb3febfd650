"""The rate of each group: one for all, or by the names of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pgmpf_tf._checks import check_mapping, check_number, received
from pgmpf_tf._patterns import check_patterns, first_match, path_names
from pgmpf_tf.channels.units import Group
from pgmpf_tf.scores.ranking import RoundTo, kept_count

_RATE = "the fraction of filters to remove, a number"


def check_rate(name: str, rate: Any) -> float | dict[str, float]:
    """A rate, or rates by pattern, as Python floats, which a file can hold.

    Args:
        name: the caller's argument.
        rate: what was passed for it.

    Raises:
        TypeError: if it is neither a number nor a mapping from string to number.
        ValueError: if a rate is outside [0, 1), or the mapping is empty.
    """
    if not isinstance(rate, Mapping):
        return check_number(name, rate, "[0, 1)", _RATE)
    check_mapping(name, rate, "from layer-name pattern to rate")
    return {
        pattern: check_number(f"{name}[{pattern!r}]", value, "[0, 1)", _RATE)
        for pattern, value in rate.items()
    }


def group_rates(
    groups: Sequence[Group], rate: float | Mapping[str, float]
) -> tuple[float, ...]:
    """The target rate of each group.

    Args:
        groups: the groups that the channel analysis found.
        rate: one rate for all, or a mapping from layer-name pattern (as in a shell:
            `*`, `?`, `[abc]`) to rate. A group takes the rate of the first pattern that
            matches one of its layers, and 0 if none does.

    Returns:
        One rate per group.

    Raises:
        ValueError: if a pattern matches no layer of any group.
    """
    if not isinstance(rate, Mapping):
        return (rate,) * len(groups)
    check_group_patterns("rate", rate, groups)
    return tuple(first_match(rate, names_of(group)) or 0.0 for group in groups)


def names_of(group: Group) -> Collection[str]:
    """The names by which patterns find a group."""
    return {name for path in group.layers for name in path_names(path)}


def check_group_patterns(
    argument: str, patterns: Iterable[str], groups: Iterable[Group]
) -> None:
    """Raises ValueError if a pattern matches no layer of any group."""
    names = {name for group in groups for name in names_of(group)}
    check_patterns(argument, patterns, names, "layer with filters to prune")


def check_removes(
    groups: Sequence[Group], rates: Sequence[float], round_to: RoundTo
) -> None:
    """Raises ValueError if rates above 0 remove not a single unit."""
    pairs = [(len(group.units), r) for group, r in zip(groups, rates, strict=True) if r]
    if not pairs or any(kept_count(count, r, round_to) < count for count, r in pairs):
        return
    largest, highest = max(count for count, _ in pairs), max(r for _, r in pairs)
    if all(kept_count(count, r) == count for count, r in pairs):
        raise ValueError(
            "`rate` must be so high that some group loses a filter; the largest has "
            f"{largest}. {received('rate', highest)}"
        )
    raise ValueError(
        "`round_to` must be so low that some group loses a filter; the largest has "
        f"{largest}. {received('round_to', round_to)}"
    )
