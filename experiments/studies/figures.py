"""Figures of a sweep: convergence curves, and accuracy over multiply-accumulates."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a backend without a window
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart. A method has the same
# one in every figure.
_COLOURS = {
    "dense": "#000000",
    "hard": "#7f7f7f",
    "sfp": "#d55e00",
    "asfp": "#e69f00",
    "asrfp": "#009e73",
    "pgmpf_no_dropout": "#56b4e9",
    "pgmpf": "#0072b2",
    "scratch": "#cc79a7",
    "tfmot_unstructured": "#8c564b",
}
_MARKERS = {"dense": "*", "scratch": "s", "tfmot_unstructured": "X"}
# Points that share their multiply-accumulates stand so far apart, of the whole axis.
_APART = 0.012


def colours(variants: Iterable[str]) -> dict[str, Any]:
    """A colour for every variant: the method's own, or one that is still free."""
    names = sorted(variants)
    # Dark colours first; the others of the map are their light versions.
    others = matplotlib.color_sequences["tab20b"]
    free = iter(others[::4] + others[2::4])
    return {name: _COLOURS.get(name) or next(free) for name in names}


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy after every epoch's update of the masks: a panel per rate.

    Lines are means over seeds, bands reach from the lowest seed to the highest.

    Args:
        records: see `experiments.tables.collect`; those without a curve are left out.
        path: the PNG file to write.
    """
    records = [record for record in records if record["curve"]]
    rates = sorted({record["rate"] for record in records})
    colour = colours({record["variant"] for record in records})
    figure, panels = pyplot.subplots(
        1, len(rates), figsize=(5 * len(rates) + 1.5, 4), squeeze=False, sharey=True
    )
    lines = {}
    for panel, rate in zip(panels[0], rates, strict=True):
        of_rate = [record for record in records if record["rate"] == rate]
        for variant, members in _by(of_rate, "variant").items():
            columns = list(zip(*(member["curve"] for member in members), strict=True))
            means = [100 * statistics.mean(column) for column in columns]
            low = [100 * min(column) for column in columns]
            high = [100 * max(column) for column in columns]
            epochs = range(1, len(means) + 1)
            (line,) = panel.plot(epochs, means, color=colour[variant], label=variant)
            panel.fill_between(
                epochs, low, high, color=colour[variant], alpha=0.15, linewidth=0
            )
            lines[variant] = line
        panel.set(title=f"rate {rate}", xlabel="epoch of pruning")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy after masking, %")
    _save(figure, path, lines)


def draw_macs(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over multiply-accumulates: mean and standard deviation over seeds.

    Points that would hide each other are set apart sideways by a little.

    Args:
        records: see `experiments.tables.collect`.
        path: the PNG file to write.
    """
    variants = _by(records, "variant")
    colour = colours(variants)
    apart = _APART * max(record["macs"] for record in records) / 1e6
    figure, panel = pyplot.subplots(figsize=(8, 4.5))
    lines = {}
    for number, variant in enumerate(_ordered(variants)):
        members = variants[variant]
        shift = apart * (number - len(variants) / 2) if variant != "dense" else 0.0
        rates = [_by(members, "rate")[rate] for rate in sorted(_by(members, "rate"))]
        lines[variant] = panel.errorbar(
            [shift + _mean(group, "macs") / 1e6 for group in rates],
            [100 * _mean(group, "accuracy") for group in rates],
            yerr=[100 * _spread(group, "accuracy") for group in rates],
            color=colour[variant],
            marker=_MARKERS.get(variant, "o"),
            markersize=9 if variant == "dense" else 5,
            linewidth=0,
            elinewidth=1.2,
            capsize=2,
            label=variant,
        )
    panel.set(
        xlabel="million multiply-accumulates (points set apart sideways)",
        ylabel="test accuracy of the final network, %",
    )
    panel.set_xlim(left=0)
    panel.grid(alpha=0.3)
    _save(figure, path, lines)


def _ordered(variants: Iterable[str]) -> list[str]:
    """Methods in the order of the colours, then the others as they come."""
    names = list(variants)
    known = [name for name in _COLOURS if name in names]
    return known + [name for name in names if name not in known]


def _by(records: list[dict[str, Any]], key: str) -> dict[Any, list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record[key], []).append(record)
    return groups


def _mean(records: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(record[key] for record in records)


def _spread(records: list[dict[str, Any]], key: str) -> float:
    values = [record[key] for record in records]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _save(figure: Figure, path: Path, lines: Mapping[str, Any]) -> None:
    order = _ordered(lines)
    figure.legend(
        [lines[name] for name in order],
        order,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
