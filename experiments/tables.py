"""Turns the runs of a sweep into a table, figures, and a record in JSON.

    python -m experiments.tables runs/main
    python -m experiments.tables runs/main --results_dir=experiments/results
    python -m experiments.tables

The first writes NAME.md, NAME.json, NAME_curves.png (accuracy after every epoch on the
images held out), NAME_macs.png and NAME_cost.png (test accuracy over
multiply-accumulates, and over the cost of training) into the sweep's folder,
the second into another.
The third writes all tables and figures of --results_dir anew, from the records there.
Runs that experiments.studies.unstructured has measured bring their rival along.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import rich
from absl import flags
from scipy import stats

from experiments.run.launching import launch
from experiments.studies import figures, sweep_records
from experiments.studies.sweep_records import DENSE, Record
from pgmpf_tf._files import staged, write_text

CONFIDENCE = 0.95
RESULTS = "experiments/results"

_MEASURES = ("accuracy", "macs", "params", "bytes", "gzip_bytes", "latency_ms")


def summarize(records: list[Record], reference: str | None = None) -> list[Record]:
    """Mean and spread over seeds, and the paired difference to a reference.

    The reference of a variant is the one that is named; where none is, the best rival:
    among the others that prune at the same rate (or, where every variant has its own
    rate, among all others that prune), the one with the highest mean. The difference is
    taken seed by seed; its interval is Student's. Networks from scratch and those of
    tfmot are compared with the best rival, but are none: they are no small network
    made of the seed's dense one.

    Args:
        records: see `experiments.studies.sweep_records`.
        reference: a variant.

    Returns:
        A row per variant and rate, best first at each rate.
    """
    groups: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        groups.setdefault((record["variant"], record["rate"]), []).append(record)
    dense_macs = [record["macs"] for record in records if record["variant"] == DENSE]
    shares = {id(one): share for one, share in sweep_records.shares_of_dense(records)}
    rows = []
    for (variant, rate), members in groups.items():
        row = {
            "variant": variant,
            "rate": rate,
            "budget": members[0]["budget"],
            "seeds": sorted(member["seed"] for member in members),
            "accuracy_std": _std([member["accuracy"] for member in members]),
        }
        row |= {key: _mean([m[key] for m in members]) for key in _MEASURES}
        row["cost"] = {
            key: _mean([m["cost"][key] for m in members]) for key in sweep_records.COST
        }
        row["cost_of_dense"] = _mean([shares.get(id(member)) for member in members])
        # What choices are made by: None where the test images were watched instead.
        last = [100 * m["curve"][-1] for m in members if m["curve"] and _held_out(m)]
        row["held_out"] = statistics.mean(last) if last else None
        if dense_macs and variant != DENSE:
            row["macs_removed"] = 1 - row["macs"] / max(dense_macs)
        compared = _reference(groups, variant, rate, reference)
        if compared and variant != DENSE:
            row |= _paired(members, compared)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["rate"], -row["accuracy"]))


def _reference(
    groups: dict[tuple[str, float], list[Record]],
    variant: str,
    rate: float,
    reference: str | None,
) -> list[Record]:
    """The records that a variant is compared with; none if there are none."""
    rivals = {key: members for key, members in groups.items() if members[0]["pruned"]}
    own_rates = len(rivals) == len({other for other, _ in rivals})
    others = [
        members
        for (other, other_rate), members in rivals.items()
        if other != variant
        and (own_rates or other_rate == rate)
        and reference in (None, other)
    ]
    return max(others, key=lambda m: statistics.mean(_accuracies(m)), default=[])


def _held_out(record: Record) -> bool:
    return record["settings"].get("held_out", 0) != 0


def _accuracies(records: list[Record]) -> list[float]:
    return [record["accuracy"] for record in records]


def _paired(members: list[Record], others: list[Record]) -> Record:
    by_seed = {other["seed"]: other["accuracy"] for other in others}
    differences = [
        member["accuracy"] - by_seed[member["seed"]]
        for member in members
        if member["seed"] in by_seed
    ]
    if not differences:
        return {}
    mean = statistics.mean(differences)
    return {
        "reference": others[0]["variant"],
        "difference": mean,
        "difference_std": _std(differences),
        "interval": interval(differences),
    }


def interval(values: list[float]) -> list[float] | None:
    """Student's confidence interval of a mean; None of less than two values."""
    if len(values) < 2:
        return None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile) * statistics.stdev(values) / len(values) ** 0.5
    return [statistics.mean(values) - half, statistics.mean(values) + half]


def _mean(values: list[float | None]) -> float | None:
    """The mean of the values that there are, or None where there are none."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _std(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def markdown(name: str, records: list[Record], reference: str | None = None) -> str:
    """The summary as a Markdown table, with command, setting and hardware."""
    against = f"`{reference}`" if reference else "the best rival"
    lines = [
        f"# {name}",
        "",
        f"`python -m experiments.sweep experiments/sweeps/{name}.json`, then "
        f"`python -m experiments.tables runs/{name}`; {_setting(records)}; "
        f"{_machines(records)}; {_minutes(records):.0f} minutes of training in all.",
        "",
        "Test accuracy of the final (compacted) network in percent, mean and standard "
        "deviation over seeds; held out: that on the images held out, by which choices "
        f"are made. The difference to {against} is paired by seed; in "
        f"brackets its {CONFIDENCE:.0%} interval (Student). MACs are those of the "
        "convolutions. Cost is that of the variant's own training, per run: processor "
        "seconds of all threads, the same as a share of what the seed's dense network "
        "took (several machines' seconds cannot be compared), and multiply-accumulates "
        "of all steps (three times the network's per image). Files and latency are "
        "TFLite's, float32.",
        "",
    ]
    rows = [_cells(row) for row in summarize(records, reference)]
    titles = [title for title in rows[0] if any(row[title] != "-" for row in rows)]
    table = [titles, ["---"] * len(titles)]
    table += [[row[title] for title in titles] for row in rows]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join(lines) + "\n"


def _minutes(records: list[Record]) -> float:
    return sum(record["cost"]["seconds"] or 0 for record in records) / 60


def _machines(records: list[Record]) -> str:
    """Where the records are from, and of which seeds if there are several places."""
    places: dict[str, set[int]] = {}
    for record in records:
        of = record["environment"]
        place = (
            f"{of['cores']} cores ({of['cpu']}), TensorFlow {of['tensorflow']}, "
            f"Keras {of['keras']}"
        )
        places.setdefault(place, set()).add(record["seed"])
    if len(places) == 1:
        return next(iter(places))
    return "; ".join(
        f"{place}, seeds {', '.join(map(str, sorted(seeds)))}"
        for place, seeds in places.items()
    )


def _setting(records: list[Record]) -> str:
    """What the table's head says of network, data and epochs."""
    settings = records[0]["settings"]
    text = f"{settings['model']} on {settings['dataset']}"
    if settings["train_examples"]:
        text += f" (first {settings['train_examples']:,} training images)"
    if settings.get("input_size"):
        text += f", {settings['input_size']} pixels wide"
    pruned = {len(record["curve"]) for record in records if record["pruned"]}
    return text + f", {' or '.join(map(str, sorted(pruned)))} epochs of pruning"


def _cells(row: Record) -> dict[str, str]:
    difference = "-"
    if "difference" in row:
        difference = f"{100 * row['difference']:+.2f}"
        if row["interval"]:
            low, high = (100 * end for end in row["interval"])
            difference += f" [{low:+.2f}, {high:+.2f}]"
        difference += f" ({row['reference']})"
    spread = row["accuracy_std"]
    return {
        "variant": row["variant"],
        "rate": ", ".join(row["budget"]) or str(row["rate"]),
        "seeds": str(len(row["seeds"])),
        "held out": _shown(row["held_out"], ".2f"),
        "accuracy": f"{100 * row['accuracy']:.2f}"
        + ("" if spread is None else f" ± {100 * spread:.2f}"),
        "difference": difference,
        "MACs": f"{row['macs']:,.0f}",
        "removed": _shown(row.get("macs_removed"), ".1%"),
        "parameters": f"{row['params']:,.0f}",
        "processor s": _shown(row["cost"]["processor_seconds"], ",.0f"),
        "of dense": _shown(row["cost_of_dense"], ".2f"),
        "MACs trained": _shown(row["cost"]["macs"], ".3g"),
        "bytes": _shown(row["bytes"], ",.0f"),
        "gzip": _shown(row["gzip_bytes"], ",.0f"),
        "latency": _shown(row["latency_ms"], ".3f", " ms"),
    }


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def write(
    name: str, results: Path, sweep: dict[str, Any], records: list[Record]
) -> str:
    """Writes the table and the figures of a sweep, and returns the table."""
    text = markdown(name, records, sweep.get("reference"))
    with staged(results) as folder:
        write_text(folder / f"{name}.md", text)
        figures.draw_curves(records, folder / f"{name}_curves.png")
        figures.draw_macs(records, folder / f"{name}_macs.png")
        if sweep_records.shares_of_dense(records):
            figures.draw_cost(records, folder / f"{name}_cost.png")
    return text


def define_flags() -> None:
    """Where to."""
    flags.DEFINE_string(
        "results_dir",
        None,
        "Where to write. By default the sweep's own folder; without a sweep, the "
        f"records are read and the tables written in {RESULTS}.",
    )
    flags.DEFINE_list(
        "known",
        [],
        "JSON of earlier tables: records of this sweep's variants, rates and seeds are "
        "kept where the folder has no run in their place.",
    )


def main(arguments: list[str]) -> None:
    """Writes the tables and figures of one sweep, or of all that are on record."""
    results = flags.FLAGS.results_dir
    if arguments:
        folder = Path(arguments[0])
        results = Path(results or folder)
        sweep, records = sweep_records.sweep_of(folder), sweep_records.collect(folder)
        known = sweep_records.of_sweep(sweep_records.known(flags.FLAGS.known), sweep)
        records = sweep_records.merged(records, known)
        summary = summarize(records, sweep.get("reference"))
        sweep_records.save(results / f"{folder.name}.json", sweep, records, summary)
        print(write(folder.name, results, sweep, records))
        return
    results = Path(results or RESULTS)
    for path in sorted(results.glob("*.json")):
        content = sweep_records.load(path)
        if content:
            write(path.stem, results, *content)
            rich.print(f"{path.stem}: table and figures")


if __name__ == "__main__":
    launch(main, define_flags, arguments=(0, 1))
