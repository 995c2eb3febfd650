"""Turns the runs of a sweep into a table, figures, and a summary in JSON.

    python -m experiments.tables runs/main

Writes NAME.md, NAME.json, NAME_curves.png (accuracy of the masked network after every
epoch) and NAME_macs.png (accuracy of the small network over its multiply-accumulates).
Runs that experiments.studies.unstructured has measured bring their rival along.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from absl import flags

from experiments.run.launching import launch
from experiments.studies import figures
from experiments.sweep import BASELINE
from pgmpf_tf._files import staged

DENSE, UNSTRUCTURED = "dense", "tfmot_unstructured"
"""Rows that are no variants of the sweep: they cost all multiply-accumulates."""

_MEASURES = ("accuracy", "macs", "params", "bytes", "gzip_bytes", "latency_ms")

Record = dict[str, Any]
"""One network of one run, see `collect`."""


def collect(folder: Path) -> list[Record]:
    """The networks that the finished runs below a sweep's folder ended with.

    Args:
        folder: the sweep's folder.

    Returns:
        A record per run, and for the dense network of each seed and each rival of
        experiments.studies.unstructured: variant, rate, seed, accuracy, MACs,
        parameters, what is known of its TFLite file, the accuracy of the masked
        network after every epoch, seconds of training, settings, and where it ran.

    Raises:
        ValueError: if there is no finished pruning run.
    """
    records: list[Record] = []
    dense: dict[int, Record] = {}
    for path in sorted(folder.rglob("result.json")):
        variant = path.relative_to(folder).parts[0]
        if variant == BASELINE:
            continue
        result = json.loads(path.read_text("utf-8"))
        # A network from scratch is small, and has no dense one before it.
        pruned = "small" in result
        record = _record(result, variant, result["small" if pruned else "dense"])
        record["seconds"] = result["training_seconds"]
        records.append(record)
        if not pruned:
            continue
        record["curve"] = _curve(path.with_name("metrics.jsonl"))
        base = _record(result, DENSE, result["dense"]) | {"rate": 0.0, "budget": []}
        base = dense.setdefault(base["seed"], base)
        measured = path.with_name("unstructured.json")
        if measured.is_file():
            rows = json.loads(measured.read_text("utf-8"))
            record.update(_file(rows["small"]))
            base.update(_file(rows["dense"]))
            # As wide as the dense network: it saves no multiply-accumulates.
            rival = {
                "variant": UNSTRUCTURED,
                "curve": [],
                "seconds": 0,
                "accuracy": rows["unstructured"]["accuracy"],
                "params": rows["unstructured"]["parameters"],
            }
            file = _file(rows["unstructured"])
            records.append(record | rival | {"macs": base["macs"]} | file)
    if not records:
        raise ValueError(f"No finished pruning run below {folder}")
    return [*dense.values(), *records]


def _record(result: Record, variant: str, row: Record) -> Record:
    settings = result["settings"]
    return {
        "variant": variant,
        "rate": settings["rate"],
        "budget": settings.get("budget", []),
        "seed": settings["seed"],
        "accuracy": row["accuracy"],
        "macs": row["conv_macs"],
        "params": row["params"],
        **_file(row.get("exports", {}).get("tflite", {})),
        "curve": [],
        "seconds": 0,
        "settings": settings,
        "environment": result["environment"],
    }


def _file(row: Record) -> Record:
    return {key: row.get(key) for key in ("bytes", "gzip_bytes", "latency_ms")}


def _curve(metrics: Path) -> list[float]:
    epochs = map(json.loads, metrics.read_text("utf-8").splitlines())
    return [
        round(epoch["val_accuracy"], 6)
        for epoch in epochs
        if epoch["stage"] == "pruned"
    ]


def summarise(records: list[Record]) -> list[Record]:
    """Mean and spread over seeds, and the paired difference to the best rival.

    The best rival of a variant is, among the others that prune at the same rate (or,
    where every variant has its own rate, among all others that prune), the one with the
    highest mean. The difference is taken seed by seed. Networks from scratch and those
    of tfmot are compared with the best rival, but are none: they are no small network
    made of the seed's dense one.

    Args:
        records: see `collect`.

    Returns:
        A row per variant and rate, best first at each rate.
    """
    groups: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        groups.setdefault((record["variant"], record["rate"]), []).append(record)
    rivals = {key: members for key, members in groups.items() if members[0]["curve"]}
    own_rates = len(rivals) == len({variant for variant, _ in rivals})
    dense_macs = [record["macs"] for record in records if record["variant"] == DENSE]
    rows = []
    for (variant, rate), members in groups.items():
        row = {
            "variant": variant,
            "rate": rate,
            "budget": members[0]["budget"],
            "seeds": sorted(member["seed"] for member in members),
            "accuracy_std": _std([member["accuracy"] for member in members]),
        }
        row |= {key: _mean(members, key) for key in _MEASURES}
        if dense_macs and variant != DENSE:
            row["macs_removed"] = 1 - row["macs"] / max(dense_macs)
        others = [
            group
            for (other, other_rate), group in rivals.items()
            if other != variant and (own_rates or other_rate == rate)
        ]
        if others and variant != DENSE:
            best = max(
                others,
                key=lambda group: statistics.mean(one["accuracy"] for one in group),
            )
            row |= _paired(members, best)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["rate"], -row["accuracy"]))


def _paired(members: list[Record], rivals: list[Record]) -> Record:
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


def _mean(records: list[Record], key: str) -> float | None:
    """The mean of a figure, or None where there is none."""
    values = [record[key] for record in records if record[key] is not None]
    return statistics.mean(values) if values else None


def _std(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def markdown(name: str, records: list[Record]) -> str:
    """The summary as a Markdown table, with command, setting and hardware."""
    environment = records[0]["environment"]
    minutes = sum(record["seconds"] for record in records) / 60
    lines = [
        f"# {name}",
        "",
        f"`python -m experiments.sweep experiments/sweeps/{name}.json`, then "
        f"`python -m experiments.tables runs/{name}`; {_setting(records)}; "
        f"{environment['cores']} cores ({environment['cpu']}), TensorFlow "
        f"{environment['tensorflow']}, Keras {environment['keras']}; {minutes:.0f} "
        "minutes of training without baselines.",
        "",
        "Test accuracy of the final (compacted) network in percent, mean and standard "
        "deviation over seeds; the difference to the best rival is paired by seed. "
        "MACs are those of the convolutions. Files and latency are TFLite's, float32.",
        "",
    ]
    rows = [_cells(row) for row in summarise(records)]
    titles = [title for title in rows[0] if any(row[title] != "-" for row in rows)]
    table = [titles, ["---"] * len(titles)]
    table += [[row[title] for title in titles] for row in rows]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join(lines) + "\n"


def _common(records: list[Record], key: str) -> Record:
    """The entries of a dictionary in which all records agree."""
    first, *others = (record[key] for record in records)
    return {k: v for k, v in first.items() if all(o[k] == v for o in others)}


def _setting(records: list[Record]) -> str:
    """What the table's head says of network, data and epochs."""
    settings = records[0]["settings"]
    text = f"{settings['model']} on {settings['dataset']}"
    if settings["train_examples"]:
        text += f" (first {settings['train_examples']:,} training images)"
    epochs = sorted({len(record["curve"]) for record in records if record["curve"]})
    return text + f", {' or '.join(map(str, epochs))} epochs of pruning"


def _cells(row: Record) -> dict[str, str]:
    difference = "-"
    if "difference" in row:
        difference = _points(row["difference"], row["difference_std"], "+.2f")
        difference += f" ({row['best_rival']})"
    return {
        "variant": row["variant"],
        "rate": ", ".join(row["budget"]) or str(row["rate"]),
        "seeds": str(len(row["seeds"])),
        "accuracy": _points(row["accuracy"], row["accuracy_std"], ".2f"),
        "to best rival": difference,
        "MACs": f"{row['macs']:,.0f}",
        "removed": _shown(row.get("macs_removed"), ".1%"),
        "parameters": f"{row['params']:,.0f}",
        "bytes": _shown(row["bytes"], ",.0f"),
        "gzip": _shown(row["gzip_bytes"], ",.0f"),
        "latency": _shown(row["latency_ms"], ".3f", " ms"),
    }


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def _points(mean: float, std: float | None, form: str) -> str:
    text = format(100 * mean, form)
    return text if std is None else f"{text} ± {100 * std:.2f}"


def define_flags() -> None:
    """Where to."""
    flags.DEFINE_string("results_dir", "experiments/results", "Where to write.")


def main(arguments: list[str]) -> None:
    """Writes the tables and figures of the sweep whose folder is named."""
    folder, results = Path(arguments[0]), Path(flags.FLAGS.results_dir)
    records = collect(folder)
    name = folder.name
    text = markdown(name, records)
    shared = {key: _common(records, key) for key in ("settings", "environment")}
    runs = [{k: v for k, v in record.items() if k not in shared} for record in records]
    summary = shared | {"summary": summarise(records), "runs": runs}
    with staged(results) as staging:
        (staging / f"{name}.md").write_text(text, "utf-8")
        (staging / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
        figures.draw_curves(records, staging / f"{name}_curves.png")
        figures.draw_macs(records, staging / f"{name}_macs.png")
    print(text)


if __name__ == "__main__":
    launch(main, define_flags, arguments=(1, 1))
