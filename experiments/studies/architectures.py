r"""Prune and compact every architecture of keras.applications; write a table.

    python -m experiments.studies.architectures
    python -m experiments.studies.architectures --names=ResNet50 --coupling=grouped
    python -m experiments.studies.architectures --set=keras_hub --deploy
    python -m experiments.studies.architectures --set=written --deploy

Each architecture has its own input size and 1,000 classes, random weights, and the
BatchNorm statistics that belong to them. It loses half of its filters; the small model
is compared with the masked one on an image. One more row is ResNet50 as published:
independent coupling, rate 0.4, shortcut convolutions excluded.

Every result is a line in results.jsonl in --output_dir as soon as it is there. The same
command goes on where it was stopped, and writes the table of all lines in the end.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import flags
from rich.progress import Progress

import pgmpf_tf
from experiments.networks import applications
from experiments.run.evaluation import deviation, environment
from experiments.run.launching import launch
from experiments.studies import toys
from experiments.studies.measuring import pinned, timed
from pgmpf_tf._files import write_text
from pgmpf_tf.channels.analysis import analyze

COUPLINGS = ("grouped", "independent")
SEED = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: an architecture, and how it is pruned."""

    name: str
    coupling: str
    rate: float = 0.5
    exclude: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The case in a word."""
        label = f"{self.name} {self.coupling}"
        return label if self.rate == 0.5 else f"{label} {self.rate}"


PUBLISHED = Case("ResNet50", "independent", 0.4, ("conv?_block1_0_conv",))

# What each case has to lose of its multiply-accumulates, at least.
DEMANDS = {
    Case(name, "grouped"): 0.60
    for name in (
        "ResNet50",
        "ResNet50V2",
        "VGG16",
        "MobileNet",
        "MobileNetV2",
        "DenseNet121",
        "InceptionV3",
        "Xception",
        "EfficientNetB0",
    )
} | {Case("ConvNeXtTiny", "grouped"): 0.74, PUBLISHED: 0.52}


def cases(names: list[str], couplings: tuple[str, ...]) -> Iterator[Case]:
    """The rows of the table, architecture by architecture."""
    for name in names:
        yield from (Case(name, coupling) for coupling in couplings)
        if PUBLISHED.name == name and PUBLISHED.coupling in couplings:
            yield PUBLISHED


def measure(case: Case, model: keras.Model) -> dict[str, Any]:
    """Prunes and compacts a model with random weights.

    Args:
        case: how.
        model: the architecture; its weights are masked.

    Returns:
        A row of the table, as a dictionary that JSON can hold.
    """
    options: dict[str, Any] = {"coupling": case.coupling, "exclude": case.exclude}
    analysis, analyze_seconds = timed(lambda: analyze(model, **options))
    masked = pgmpf_tf.wrap(model, rate=case.rate, seed=SEED, **options)
    masked.apply_masks()
    # More than two of EfficientNetB7's images, at all its layers, want too much memory.
    applications.settle(masked, applications.images(model, 2, SEED))
    small, compact_seconds = timed(lambda: pgmpf_tf.compact(masked))
    image = applications.images(model, 1, SEED + 1)
    dense_cost, small_cost = pgmpf_tf.profile(model), pgmpf_tf.profile(small)
    return dataclasses.asdict(case) | {
        "size": model.input_shape[1],
        "macs": [dense_cost.macs, small_cost.macs],
        "params": [dense_cost.params, small_cost.params],
        "filters": sum(analysis.filters.values()),
        "pinned": pinned(analysis),
        "deviation": deviation(
            np.asarray(small(image, training=False)),
            np.asarray(masked(image, training=False)),
        ),
        "analyze_seconds": analyze_seconds,
        "compact_seconds": compact_seconds,
    }


class Results:
    """The file of finished rows.

    Args:
        folder: where it lies; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.jsonl"
        self.rows: dict[Case, dict[str, Any]] = {}
        text = self.path.read_text("utf-8") if self.path.is_file() else ""
        # A line that a killed run left unfinished has no end.
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(self.path, whole)
        for line in whole.splitlines():
            row = json.loads(line)
            self.rows[_case_of(row)] = row

    def add(self, row: dict[str, Any]) -> None:
        """Appends one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[_case_of(row)] = row


def _case_of(row: dict[str, Any]) -> Case:
    return Case(row["name"], row["coupling"], row["rate"], tuple(row["exclude"]))


def table(rows: dict[Case, dict[str, Any]], machine: dict[str, Any]) -> str:
    """The results as Markdown."""
    order = list(cases(list(applications.NAMES), COUPLINGS))
    lines = [
        "# Every architecture of keras.applications, pruned and compacted",
        "",
        f"Written by `python -m experiments.studies.architectures` (seed {SEED}). "
        "Rate 0.5, "
        "criterion `l2`, random weights with the BatchNorm statistics that belong to "
        "them, 1,000 classes. Deviation: the largest difference between the outputs of "
        "the masked and the small model on an image, over the largest output.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        "| architecture | input | coupling | MACs, dense | small | ratio "
        "| parameters, dense | small | ratio | pinned filters, and why | deviation "
        "| analyze (s) | compact (s) |",
        "| --- | ---: | --- |" + " ---: |" * 6 + " --- |" + " ---: |" * 3,
        *(_line(rows[case]) for case in order if case in rows),
        "",
        "## What was demanded",
        "",
        "| case | MACs lost | at least | |",
        "| --- | ---: | ---: | --- |",
        *(_demand(case, rows[case]) for case in DEMANDS if case in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    how = row["coupling"]
    if row["exclude"]:
        how += f", rate {row['rate']}, without {', '.join(row['exclude'])}"
    reasons = ", ".join(f"{word} {n:,}" for word, n in row["pinned"].items())
    pins = f"{sum(row['pinned'].values()):,} of {row['filters']:,}: {reasons}"
    cells = [row["name"], row["size"], how]
    for dense, small in (row["macs"], row["params"]):
        cells += [f"{dense / 1e6:,.1f} M", f"{small / 1e6:,.1f} M"]
        cells += [f"{small / dense:.3f}"]
    cells += [pins, f"{row['deviation']:.1e}"]
    cells += [f"{row['analyze_seconds']:.2f}", f"{row['compact_seconds']:.2f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def _demand(case: Case, row: dict[str, Any]) -> str:
    dense, small = row["macs"]
    lost, least = 1 - small / dense, DEMANDS[case]
    reason = next(iter(row["pinned"]), "nothing is pinned")
    verdict = "met" if lost >= least else f"missed: {reason}"
    return f"| {case.label} | {lost:.1%} | {least:.0%} | {verdict} |"


def define_flags() -> None:
    """What to measure, and where to write."""
    flags.DEFINE_enum(
        "set", "applications", ["applications", *toys.SETS], "Which networks."
    )
    flags.DEFINE_list("names", [], "Which of them; by default all.")
    flags.DEFINE_bool(
        "deploy",
        False,
        "Also train a step, load elsewhere and export (not for applications).",
    )
    flags.DEFINE_enum(
        "coupling", "both", [*COUPLINGS, "both"], "Whether sums tie channels together."
    )
    flags.DEFINE_string("output_dir", "runs/architectures", "Folder of results.jsonl.")
    flags.DEFINE_string(
        "table", "experiments/results/architectures.md", "The file for the table."
    )


def main(_: list[str]) -> None:
    """Measures what is missing, and writes the table."""
    kind = toys.SETS.get(flags.FLAGS.set)
    known = list(applications.NAMES) if kind is None else list(kind.networks)
    names, coupling = flags.FLAGS.names or known, flags.FLAGS.coupling
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(
            f"--names must be of {', '.join(known)}. Received: {', '.join(unknown)}"
        )
    if kind is not None:
        folder = Path(flags.FLAGS.table).parent
        print(toys.run(kind, folder, names, flags.FLAGS.deploy))
        return
    couplings = COUPLINGS if coupling == "both" else (coupling,)
    results = Results(Path(flags.FLAGS.output_dir))
    measure_all(list(cases(names, couplings)), results)
    text = table(results.rows, environment())
    write_text(flags.FLAGS.table, text)
    print(text)


def measure_all(wanted: list[Case], results: Results) -> None:
    """Measures the cases that have no row yet; each architecture is built once."""
    with Progress() as progress:
        task = progress.add_task("", total=len(wanted))
        name: str | None = None
        model: Any = None
        weights: Any = None
        for case in wanted:
            progress.update(task, description=case.label)
            if case not in results.rows:
                if case.name != name:
                    keras.utils.clear_session()
                    model = weights = None
                    name, model = case.name, applications.build(case.name)
                    applications.randomize(model, SEED, batch=2)
                    weights = model.get_weights()
                model.set_weights(weights)
                results.add(measure(case, model))
            progress.advance(task)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
