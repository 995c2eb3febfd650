"""Figures of a sweep: convergence curves, and accuracy over multiply-accumulates."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
# After the choice of a backend without a window.
from matplotlib import pyplot
from matplotlib.figure import Figure

from experiments.studies.sweep_records import DENSE, shares_of_dense

# Okabe and Ito's colors, which color-blind readers tell apart. A method has the same
# one in every figure.
_COLORS = {
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


def colors(variants: Iterable[str]) -> dict[str, Any]:
    """A color for every variant: the method's own, or one that is still free.

    After twenty others they come again: no figure tells so many lines apart.
    """
    names = sorted(variants)
    # Dark colors first; the others of the map are their light versions.
    others = matplotlib.color_sequences["tab20b"]
    free = itertools.cycle(others[::4] + others[2::4] + others[1::4] + others[3::4])
    return {name: _COLORS.get(name) or next(free) for name in names}


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy after every epoch, of the masked network: a panel per rate.

    Lines are means over seeds, bands reach from the lowest seed to the highest.

    Args:
        records: see `experiments.studies.sweep_records`; those without a curve are left
            out.
        path: the PNG file to write.
    """
    records = [record for record in records if record["curve"]]
    rates = sorted({record["rate"] for record in records})
    color = colors({record["variant"] for record in records})
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
            (line,) = panel.plot(epochs, means, color=color[variant], label=variant)
            panel.fill_between(
                epochs, low, high, color=color[variant], alpha=0.15, linewidth=0
            )
            lines[variant] = line
        panel.set(title=f"rate {rate}", xlabel="epoch")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel(f"{_watched(records)} accuracy, %")
    _save(figure, path, lines)


def draw_macs(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over multiply-accumulates: mean and standard deviation over seeds.

    Points that would hide each other are set apart sideways by a little.

    Args:
        records: see `experiments.studies.sweep_records`.
        path: the PNG file to write.
    """
    _draw_points(
        {"": records},
        path,
        lambda record: record["macs"] / 1e6,
        "million multiply-accumulates (points set apart sideways)",
        apart=_APART * max(record["macs"] for record in records) / 1e6,
    )


def draw_cost(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over the processor time of training: mean and deviation over seeds.

    The time is a share of that of the seed's dense network, which is in each panel; a
    panel per rate.

    Args:
        records: see `experiments.studies.sweep_records`; those without a share are left
            out.
        path: the PNG file to write.
    """
    shares = shares_of_dense(records)
    by_id = {id(record): share for record, share in shares}
    dense = [record for record, _ in shares if record["variant"] == DENSE]
    by_rate = _by([one for one, _ in shares if one["variant"] != DENSE], "rate")
    _draw_points(
        {f"rate {rate}": dense + by_rate[rate] for rate in sorted(by_rate)},
        path,
        lambda record: by_id[id(record)],
        "processor time of its own training (dense network: 1)",
    )


def _draw_points(
    panels: Mapping[str, list[dict[str, Any]]],
    path: Path,
    read: Callable[[dict[str, Any]], float],
    label: str,
    apart: float = 0.0,
) -> None:
    """A point per variant and rate, in panels with titles."""
    names = [record["variant"] for records in panels.values() for record in records]
    color = colors(set(names))
    width = 8 if len(panels) == 1 else 5 * len(panels) + 1.5
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(width, 4.5), squeeze=False, sharey=True
    )
    lines = {}
    for panel, (title, records) in zip(axes[0], panels.items(), strict=True):
        variants = _by(records, "variant")
        for number, variant in enumerate(_ordered(variants)):
            shift = apart * (number - len(variants) / 2) if variant != "dense" else 0.0
            by_rate = _by(variants[variant], "rate")
            groups = [by_rate[rate] for rate in sorted(by_rate)]
            lines[variant] = panel.errorbar(
                [shift + statistics.mean(map(read, group)) for group in groups],
                [100 * _mean(group, "accuracy") for group in groups],
                yerr=[100 * _spread(group, "accuracy") for group in groups],
                color=color[variant],
                marker=_MARKERS.get(variant, "o"),
                markersize=9 if variant == "dense" else 5,
                linewidth=0,
                elinewidth=1.2,
                capsize=2,
                label=variant,
            )
        panel.set(xlabel=label, title=title)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("test accuracy of the final network, %")
    _save(figure, path, lines)


def _ordered(variants: Iterable[str]) -> list[str]:
    """Methods in the order of the colors, then the others as they come."""
    names = list(variants)
    known = [name for name in _COLORS if name in names]
    return known + [name for name in names if name not in known]


def _watched(records: list[dict[str, Any]]) -> str:
    """Which images the curves are about: with none held out, the test images."""
    nothing_held_out = all(r["settings"].get("held_out", 0) == 0 for r in records)
    return "test" if nothing_held_out else "validation"


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
