"""The networks of a sweep as records: read from its runs, kept in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgmpf_tf._files import write_text

BASELINE = "baseline"
"""The folder of the dense trainings, and their method."""

SWEEP_FILE = "sweep.json"
"""What a sweep's folder holds beside the runs."""

DENSE, UNSTRUCTURED = "dense", "tfmot_unstructured"
"""Rows that are no variants of the sweep: they cost all multiply-accumulates."""

COST = ("macs", "seconds", "processor_seconds", "load")
"""What a record says of its training, see `experiments.run.records`."""

Record = dict[str, Any]
"""One network of one run.

`variant`, `rate`, `budget`, `seed`; `accuracy` on the test images, and that of the
masked network and of the TFLite file in `accuracies`; `macs` (of the convolutions) and
`params`; what is known of its TFLite file; `pruned`, whether it was made of the seed's
dense network; `curve`, the validation accuracy after every epoch; `cost` of its own
training; `settings`; and `environment`, where it ran.
"""


def collect(folder: Path) -> list[Record]:
    """The networks that the finished runs below a sweep's folder ended with.

    Args:
        folder: the sweep's folder.

    Returns:
        A record for the dense network of each seed, one per run, and one for each
        rival of experiments.studies.unstructured.

    Raises:
        ValueError: if there is no finished run but baselines.
    """
    records: list[Record] = []
    dense: dict[int, Record] = {}
    costs: dict[int, Record] = {}
    for path in sorted(folder.rglob("result.json")):
        variant = path.relative_to(folder).parts[0]
        result = json.loads(path.read_text("utf-8"))
        result["settings"] = _without_folder(result["settings"], folder)
        seed = result["settings"]["seed"]
        if variant == BASELINE:
            costs[seed] = _cost(result, pruned=False)
            continue
        # A network from scratch is small, and has no dense one before it.
        pruned = "small" in result
        record = _record(result, variant, "small" if pruned else "dense")
        record["cost"] = _cost(result, pruned)
        record["curve"] = _curve(path.with_name("metrics.jsonl"), pruned)
        records.append(record)
        if pruned and "dense" in result:
            base = _record(result, DENSE, "dense")
            base = dense.setdefault(seed, base | {"rate": 0.0, "budget": []})
            measured = path.with_name("unstructured.json")
            if measured.is_file():
                rows = json.loads(measured.read_text("utf-8"))
                records.append(_unstructured(rows, record, base))
    if not records:
        raise ValueError(f"No finished run but baselines below {folder}")
    for seed, base in dense.items():
        base["cost"] = costs.get(seed, base["cost"])
    return [*dense.values(), *records]


def _without_folder(settings: Record, folder: Path) -> Record:
    """Settings that name files of the sweep as seen from its folder, wherever it is."""
    start = f"{folder}/"
    return {
        name: value.removeprefix(start) if isinstance(value, str) else value
        for name, value in settings.items()
    }


def _record(result: Record, variant: str, network: str) -> Record:
    settings, row = result["settings"], result[network]
    accuracies = {"test": row["accuracy"], "tflite": row.get("tflite_accuracy")}
    if network == "small":
        accuracies["masked"] = result["masked"]["accuracy"]
    return {
        "variant": variant,
        "rate": settings["rate"],
        "budget": settings["budget"],
        "seed": settings["seed"],
        "accuracy": row["accuracy"],
        "accuracies": accuracies,
        "macs": row["conv_macs"],
        "params": row["params"],
        **_file(row.get("exports", {}).get("tflite", {})),
        "pruned": network == "small",
        "curve": [],
        "cost": dict.fromkeys(COST),
        "settings": settings,
        "environment": result["environment"],
    }


def _unstructured(rows: Record, small: Record, dense: Record) -> Record:
    """The rival of a run; the files made beside its own go to their records."""
    small.update(_file(rows["small"]))
    dense.update(_file(rows["dense"]))
    rival = rows["unstructured"]
    return small | {
        "variant": UNSTRUCTURED,
        "accuracy": rival["accuracy"],
        "accuracies": {"test": rival["accuracy"]},
        # As wide as the dense network: it saves no multiply-accumulates.
        "macs": dense["macs"],
        "params": rival["parameters"],
        **_file(rival),
        "pruned": False,
        "curve": rival["curve"],
        "cost": dict.fromkeys(COST),
        "settings": small["settings"]
        | {key: rival[key] for key in ("epochs", "prune_learning_rate")},
    }


def _file(row: Record) -> Record:
    return {key: row.get(key) for key in ("bytes", "gzip_bytes", "latency_ms")}


def _cost(result: Record, pruned: bool) -> Record:
    """What all stages have cost that made the network of the dense one, or the dense.

    Loads are averaged over the seconds.
    """
    stages = [
        spent for stage, spent in result["cost"].items() if (stage != "dense") == pruned
    ]
    if not stages:
        return dict.fromkeys(COST)
    total = {key: sum(stage[key] for stage in stages) for key in COST[:-1]}
    load = sum(stage["load"] * stage["seconds"] for stage in stages)
    return total | {"load": round(load / total["seconds"], 2)}


def _curve(metrics: Path, pruned: bool) -> list[float]:
    epochs = map(json.loads, metrics.read_text("utf-8").splitlines())
    return [
        round(epoch["val_accuracy"], 6)
        for epoch in epochs
        if (epoch["stage"] != "dense") == pruned
    ]


def sweep_of(folder: Path) -> dict[str, Any]:
    """What the sweep in a folder was meant to do; empty if that is not known."""
    path = folder / SWEEP_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def save(
    path: Path, sweep: dict[str, Any], records: list[Record], summary: list[Record]
) -> None:
    """Writes records; what they share in settings and environment stands once.

    Args:
        path: the JSON file.
        sweep: see `sweep_of`.
        records: see `collect`.
        summary: see `experiments.tables.summarize`; for readers of the file.
    """
    shared = {key: _common(records, key) for key in ("settings", "environment")}
    runs = []
    for record in records:
        own = {
            key: {k: v for k, v in record[key].items() if k not in shared[key]}
            for key in shared
        }
        runs.append(record | own)
    content = {"sweep": sweep, **shared, "summary": summary, "runs": runs}
    write_text(path, json.dumps(content, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Record]] | None:
    """The sweep and the records of a file that `save` wrote; None of another file."""
    content = json.loads(path.read_text("utf-8"))
    keys = {"sweep", "settings", "environment", "summary", "runs"}
    if not isinstance(content, dict) or set(content) != keys:
        return None
    records = [
        record
        | {key: content[key] | record[key] for key in ("settings", "environment")}
        for record in content["runs"]
    ]
    return content["sweep"], records


def known(paths: Iterable[str]) -> list[Record]:
    """The records of the files that a flag names.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    records = []
    for path in paths:
        try:
            content = load(Path(path))
        except (OSError, ValueError):
            content = None
        if content is None:
            raise ValueError(
                "`known` must be JSON files that experiments.tables has written. "
                f"Received: {path!r}"
            )
        records += content[1]
    return records


def of_sweep(records: Iterable[Record], sweep: Record) -> list[Record]:
    """Those records that stand for rows of a sweep, and not for those of another.

    Args:
        records: any.
        sweep: see `sweep_of`; with an empty one all are kept.
    """
    if not sweep:
        return list(records)
    variants, rates = {*sweep["variants"], UNSTRUCTURED}, sweep.get("rates")
    return [
        record
        for record in records
        if record["seed"] in sweep["seeds"]
        and (
            record["variant"] == DENSE
            or (
                record["variant"] in variants
                and (rates is None or record["rate"] in rates)
            )
        )
    ]


def on_record(record: Record, settings: Record, folder: Path) -> bool:
    """Whether a record is of a run with these settings.

    Args:
        record: one of a small network.
        settings: of the run, as JSON has them.
        folder: the sweep's folder, whose files records name as seen from there.
    """
    return bool(record["settings"] == _without_folder(settings, folder))


def merged(records: list[Record], known: Iterable[Record]) -> list[Record]:
    """Records with those known before that are of other runs, dense networks first.

    Args:
        records: see `collect`.
        known: of earlier collections, see `of_sweep`.
    """

    def key(record: Record) -> tuple[Any, ...]:
        return record["variant"], record["rate"], str(record["budget"]), record["seed"]

    by_key = {key(record): record for record in [*known, *records]}
    return sorted(by_key.values(), key=lambda record: record["variant"] != DENSE)


def shares_of_dense(records: Iterable[Record]) -> list[tuple[Record, float]]:
    """Processor time of training, as a share of that of the seed's dense network.

    Seconds of several machines have no mean that says anything; shares have.

    Args:
        records: any.

    Returns:
        Each record with its share, but for those that lack one of the two times.
    """
    records = list(records)
    times = [(record, record["cost"]["processor_seconds"]) for record in records]
    dense = {one["seed"]: time for one, time in times if one["variant"] == DENSE}
    return [
        (record, time / dense[record["seed"]])
        for record, time in times
        if time and dense.get(record["seed"])
    ]


def _common(records: Iterable[Record], key: str) -> Record:
    """The entries of a dictionary in which all records agree."""
    first, *others = (record[key] for record in records)
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
