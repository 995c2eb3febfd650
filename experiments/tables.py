"""Turns the runs of a sweep into a table, figures, and a summary in JSON.

    python -m experiments.tables runs/main

Writes NAME.md, NAME.json, NAME_curves.png (accuracy of the masked network after every
epoch) and NAME_macs.png (accuracy of the small network over its multiply-accumulates).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib
from absl import app, flags

from experiments.sweep import BASELINE

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a backend without a window


def collect(folder: Path) -> list[dict[str, Any]]:
    """The finished pruning runs below a sweep's folder.

    Args:
        folder: the sweep's folder.

    Returns:
        A record per run: variant, rate, seed, accuracies, multiply-accumulates, the
        accuracy of the masked network after every epoch, and where it ran.

    Raises:
        ValueError: if there is none.
    """
    records = []
    for path in sorted(folder.rglob("result.json")):
        result = json.loads(path.read_text("utf-8"))
        variant = path.relative_to(folder).parts[0]
        if variant == BASELINE:
            continue
        # A network from scratch is small, and has no dense one before it.
        small = result.get("small", result.get("dense"))
        dense = result["dense"] if "small" in result else {}
        metrics = (path.parent / "metrics.jsonl").read_text("utf-8").splitlines()
        epochs = list(map(json.loads, metrics))
        if "small" in result:
            epochs = [epoch for epoch in epochs if epoch["stage"] == "pruned"]
        records.append(
            {
                "variant": variant,
                "rate": result["settings"]["rate"],
                "seed": result["settings"]["seed"],
                "dense_accuracy": dense.get("accuracy"),
                "accuracy": small["accuracy"],
                "dense_macs": dense.get("conv_macs"),
                "macs": small["conv_macs"],
                "latency_ms": _latency(small),
                "curve": [epoch["val_accuracy"] for epoch in epochs],
                "seconds": result["training_seconds"],
                "environment": result["environment"],
            }
        )
    if not records:
        raise ValueError(f"No finished pruning run below {folder}")
    return records


def _latency(row):
    return row.get("exports", {}).get("tflite", {}).get("latency_ms")


def summarise(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over seeds, and the paired difference to the best rival.

    The best rival of a variant is, among the others at the same rate (or, where every
    variant has its own rate, among all others), the one with the highest mean. The
    difference is taken seed by seed.

    Args:
        records: see `collect`.

    Returns:
        A row per variant and rate, best first at each rate.
    """
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["variant"], record["rate"]), []).append(record)
    dense_macs = max((record["dense_macs"] or 0 for record in records), default=0)
    own_rates = len(groups) == len({variant for variant, _ in groups})
    rows = []
    for (variant, rate), members in groups.items():
        rivals = [
            others
            for (other, other_rate), others in groups.items()
            if other != variant and (own_rates or other_rate == rate)
        ]
        best = max(rivals, key=lambda others: _mean(others, "accuracy"), default=None)
        rows.append(
            {
                "variant": variant,
                "rate": rate,
                "seeds": sorted(member["seed"] for member in members),
                "accuracy": _mean(members, "accuracy"),
                "accuracy_std": _std([member["accuracy"] for member in members]),
                "dense_accuracy": _mean(members, "dense_accuracy"),
                "macs_removed": (
                    1 - _mean(members, "macs") / dense_macs if dense_macs else None
                ),
                "latency_ms": _mean(members, "latency_ms"),
            }
            | (_paired(members, best) if best else {})
        )
    return sorted(rows, key=lambda row: (row["rate"], -row["accuracy"]))


def _paired(members, rivals):
    by_seed = {rival["seed"]: rival["accuracy"] for rival in rivals}
    differences = [
        member["accuracy"] - by_seed[member["seed"]]
        for member in members
        if member["seed"] in by_seed
    ]
    if not differences:
        return {}
    return {
        "best_rival": rivals[0]["variant"],
        "difference": statistics.mean(differences),
        "difference_std": _std(differences),
    }


def _mean(records: list[dict[str, Any]], key: str) -> float | None:
    """The mean of a figure, or None where there is none."""
    values = [record[key] for record in records if record[key] is not None]
    return statistics.mean(values) if values else None


def _std(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def markdown(name: str, records: list[dict[str, Any]]) -> str:
    """The summary as a Markdown table, with command and hardware."""
    environment = records[0]["environment"]
    minutes = sum(record["seconds"] for record in records) / 60
    lines = [
        f"# {name}",
        "",
        f"`python -m experiments.sweep experiments/sweeps/{name}.json`, then "
        f"`python -m experiments.tables runs/{name}`; {environment['cores']} cores "
        f"({environment['cpu']}), TensorFlow {environment['tensorflow']}, Keras "
        f"{environment['keras']}; {minutes:.0f} minutes of training without baselines.",
        "",
        "Test accuracy of the compacted network in percent, mean and standard "
        "deviation over seeds; the difference to the best rival is paired by seed.",
        "",
        "| variant | rate | seeds | accuracy | to best rival | dense | MACs removed "
        "| latency |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in summarise(records):
        rival = "-"
        if "difference" in row:
            difference = _points(row["difference"], row["difference_std"], "+.2f")
            rival = f"{difference} ({row['best_rival']})"
        lines.append(
            f"| {row['variant']} | {row['rate']} | {len(row['seeds'])} "
            f"| {_points(row['accuracy'], row['accuracy_std'], '.2f')} | {rival} "
            f"| {_shown(row['dense_accuracy'], '.2%')} "
            f"| {_shown(row['macs_removed'], '.1%')} "
            f"| {_shown(row['latency_ms'], '.3f', ' ms')} |"
        )
    return "\n".join(lines) + "\n"


def _shown(value, form, unit=""):
    return "-" if value is None else format(value, form) + unit


def _points(mean, std, form):
    text = format(100 * mean, form)
    return text if std is None else f"{text} ± {100 * std:.2f}"


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy of the masked network after every epoch: a panel per rate."""
    rates = sorted({record["rate"] for record in records})
    figure, panels = pyplot.subplots(
        1, len(rates), figsize=(5 * len(rates), 4), squeeze=False, sharey=True
    )
    for panel, rate in zip(panels[0], rates, strict=True):
        for variant, curves in _by_variant(records, "curve", rate):
            columns = list(zip(*curves, strict=True))
            means = [100 * statistics.mean(column) for column in columns]
            low = [100 * min(column) for column in columns]
            high = [100 * max(column) for column in columns]
            epochs = range(1, len(means) + 1)
            (line,) = panel.plot(epochs, means, label=variant)
            panel.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15)
        panel.set(title=f"rate {rate}", xlabel="epoch")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy after masking, %")
    panels[0][-1].legend(fontsize="small")
    _save(figure, path)


def draw_macs(records: list[dict[str, Any]], path: Path) -> None:
    """Accuracy of the small network over its multiply-accumulates: a point per run."""
    figure, panel = pyplot.subplots(figsize=(6, 4))
    for variant in dict.fromkeys(record["variant"] for record in records):
        members = [record for record in records if record["variant"] == variant]
        macs = [record["macs"] / 1e6 for record in members]
        accuracies = [100 * record["accuracy"] for record in members]
        panel.scatter(macs, accuracies, label=variant, alpha=0.7, s=25)
    panel.set(xlabel="million multiply-accumulates", ylabel="test accuracy, %")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    _save(figure, path)


def _by_variant(records, key, rate):
    chosen: dict[str, list] = {}
    for record in records:
        if record["rate"] == rate:
            chosen.setdefault(record["variant"], []).append(record[key])
    return chosen.items()


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """Writes the tables and figures of the sweep whose folder is named."""
    if len(argv) != 2:
        raise app.UsageError("Name one sweep's folder: runs/main, say.")
    folder, results = Path(argv[1]), Path(flags.FLAGS.results_dir)
    try:
        records = collect(folder)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    results.mkdir(parents=True, exist_ok=True)
    name = folder.name
    text = markdown(name, records)
    (results / f"{name}.md").write_text(text, "utf-8")
    summary = {"runs": records, "summary": summarise(records)}
    (results / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    draw_curves(records, results / f"{name}_curves.png")
    draw_macs(records, results / f"{name}_macs.png")
    print(text)


if __name__ == "__main__":
    flags.DEFINE_string("results_dir", "experiments/results", "Where to write.")
    app.run(main)
