"""Runs that belong together: variants x rates x seeds, each from its seed's baseline.

    python -m experiments.sweep experiments/sweeps/main.json

A sweep is a JSON file:

    {
      "recipe": "quick",
      "settings": {"dataset": "fashion_mnist", "epochs": 10},
      "baseline": {"dense_epochs": 20},
      "variants": {"pgmpf": {"method": "pgmpf"}, "sfp": {"method": "sfp"}},
      "rates": [0.4, 0.7],
      "seeds": [0, 1, 2],
      "reference": "pgmpf"
    }

`settings` are for all runs; `baseline` adds those of the dense training that comes
first, once per seed, or names the folder of another sweep that has done it, with
`{seed}` in it; every variant adds its own. Without `rates` a variant has its own
`rate`; with `seeds` of its own it has only these. In the texts of a variant, `{seed}`
and `{rate}` stand for those of the run;
`{"method": "baseline", "baseline": null, "dense_epochs": 30, "model":
"runs/main/pgmpf/rate{rate}/seed{seed}/compacted.keras"}` trains the small network from
scratch. A value may depend on the rate: `{"epochs": {"0.4": 10, "0.7": 14}}`. With a
`reference`, experiments.tables compares all others with that variant.

Every run has its own folder below --output_dir; finished runs are skipped, one that was
killed goes on, and one at which another process works is left to it: the same command
may run several times at once. For hours in the background:

    nohup python -m experiments.sweep experiments/sweeps/main.json > main.log &

Where the runs are gone but their records are kept, a sweep goes on from these, here and
in the tables (from those of several sweeps, if they share runs):

    python -m experiments.sweep experiments/sweeps/main.json --known=.../main.json
    python -m experiments.tables runs/main --known=.../main.json --results_dir=...
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import rich
from absl import flags

from experiments.run import runner as runs
from experiments.run.launching import launch
from experiments.run.settings import RunSettings, resolve
from experiments.studies import sweep_records
from experiments.studies.sweep_records import BASELINE, SWEEP_FILE, Record
from pgmpf_tf._files import FolderInUse, write_text


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        variant: which variant, or `"baseline"`.
        settings: what it does.
        folder: where, below the sweep's folder.
    """

    variant: str
    settings: RunSettings
    folder: Path


def plan(content: Mapping[str, Any], output_dir: Path) -> list[PlannedRun]:
    """All runs of a sweep, the baselines first.

    Args:
        content: the sweep's JSON.
        output_dir: the sweep's folder.

    Returns:
        The runs, seed by seed, so that a stopped sweep has whole comparisons.

    Raises:
        ValueError: if the JSON is not a sweep, or a setting is unknown or out of range.
    """
    _check(content)
    recipe, common = content.get("recipe", "quick"), content.get("settings", {})
    planned = []
    for seed in content["seeds"]:
        base = Path(output_dir) / BASELINE / f"seed{seed}"
        if isinstance(content["baseline"], str):
            base = Path(content["baseline"].format(seed=seed))
        else:
            settings = {**common, **content["baseline"]}
            chosen = resolve(recipe, **settings, method=BASELINE, seed=seed)
            planned.append(PlannedRun(BASELINE, chosen, base))
        for variant, own in content["variants"].items():
            changes = dict(own)
            if seed not in changes.pop("seeds", [seed]):
                continue
            for rate in content.get("rates", [None]):
                start = {"dense_epochs": 0, "baseline": str(base / "dense.keras")}
                settings = {**common, **start, **_fill_in(changes, seed, rate)}
                if rate is not None:
                    settings["rate"] = rate
                chosen = resolve(recipe, **settings | {"seed": seed})
                folder = (
                    Path(output_dir) / variant / f"rate{chosen.rate}" / f"seed{seed}"
                )
                planned.append(PlannedRun(variant, chosen, folder))
    return planned


def _check(content: Mapping[str, Any]) -> None:
    keys = {
        "recipe",
        "settings",
        "baseline",
        "variants",
        "rates",
        "seeds",
        "reference",
    }
    needed = {"baseline", "variants", "seeds"}
    if not isinstance(content, Mapping) or not needed <= set(content) <= keys:
        found = sorted(content) if isinstance(content, Mapping) else type(content)
        raise ValueError(
            f"A sweep has {', '.join(sorted(needed))} and may have "
            f"{', '.join(sorted(keys - needed))}. Received: {found}"
        )
    for variant, changes in content["variants"].items():
        unknown = sorted({*changes.get("seeds", [])} - {*content["seeds"]})
        if unknown:
            raise ValueError(
                f"`seeds` of {variant} must be among those of the sweep, "
                f"{content['seeds']}. Received: {unknown}"
            )
    reference = content.get("reference")
    if reference is not None and reference not in content["variants"]:
        raise ValueError(
            f"`reference` must be one of {', '.join(content['variants'])}. Received: "
            f"reference={reference!r}"
        )


def _fill_in(
    changes: Mapping[str, Any], seed: int, rate: float | None
) -> dict[str, Any]:
    """A variant's settings for one seed and rate."""
    filled = {}
    for name, value in changes.items():
        if isinstance(value, Mapping):
            if str(rate) not in value:
                raise ValueError(
                    f"`{name}` has values for {', '.join(value)}, and none for the "
                    f"rate {rate}."
                )
            value = value[str(rate)]
        if isinstance(value, str):
            value = value.format(seed=seed, rate=rate)
        filled[name] = value
    return filled


def not_on_record(
    planned: list[PlannedRun], known: list[Record], output_dir: Path
) -> list[PlannedRun]:
    """The runs that are still to be done, and the baselines that they start from.

    Args:
        planned: the runs, see `plan`.
        known: records of earlier runs; one with other settings stands for none.
        output_dir: the sweep's folder.

    Returns:
        Those of the runs that have no record, in their order.
    """
    left = [
        run
        for run in planned
        if run.variant != BASELINE
        and not any(
            record["variant"] == run.variant
            and sweep_records.on_record(record, run.settings.to_json(), output_dir)
            for record in known
        )
    ]
    seeds = {run.settings.seed for run in left}
    return [
        run
        for run in planned
        if run in left or (run.variant == BASELINE and run.settings.seed in seeds)
    ]


def execute(planned: list[PlannedRun]) -> list[tuple[PlannedRun, Exception]]:
    """Does what is not done yet, one run after the other.

    Args:
        planned: the runs, see `plan`.

    Returns:
        The runs that this call has not brought to an end, and why: those that failed,
        and those at which another process works.
    """
    failed: list[tuple[PlannedRun, Exception]] = []
    started = time.monotonic()
    left = [run for run in planned if not (run.folder / "result.json").is_file()]
    if len(left) < len(planned):
        rich.print(f"{len(planned) - len(left)} of {len(planned)} runs are finished.")
    for number, run in enumerate(left, start=1):
        estimate = ""
        if number > 1:
            each = (time.monotonic() - started) / (number - 1) / 60
            estimate = f", about {each * (len(left) - number + 1):.0f} minutes left"
        rich.print(f"[bold]Run {number} of {len(left)}{estimate}:[/bold] {run.folder}")
        try:
            runs.run(run.settings, run.folder)
        except FolderInUse as error:
            rich.print(f"left to the other: {error}")
            failed.append((run, error))
        except (ValueError, FileNotFoundError) as error:
            # The others do not depend on it, but for those that prune this baseline.
            rich.print(f"[red]failed:[/red] {error}")
            failed.append((run, error))
        keras.utils.clear_session()
    return failed


def define_flags() -> None:
    """Where to."""
    flags.DEFINE_string(
        "output_dir", None, "Folder of the runs; by default runs/ and the sweep's name."
    )
    flags.DEFINE_list(
        "known",
        [],
        "JSON files of experiments.tables: runs that are on record there with the same "
        "settings are not done again.",
    )


def main(arguments: list[str]) -> None:
    """Runs the sweep whose file is named."""
    path = Path(arguments[0])
    output_dir = Path(flags.FLAGS.output_dir or Path("runs") / path.stem)
    try:
        content = json.loads(path.read_text("utf-8"))
        planned = plan(content, output_dir)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if flags.FLAGS.known:
        known = sweep_records.known(flags.FLAGS.known)
        planned = not_on_record(planned, known, output_dir)
    # Tables are made of the runs and of what they were meant to compare.
    write_text(output_dir / SWEEP_FILE, json.dumps(content, indent=2) + "\n")
    failed = execute(planned)
    if failed:
        sys.exit(f"{len(failed)} of {len(planned)} runs have not come to their end.")
    rich.print(f"All {len(planned)} runs in {output_dir} are finished.")


if __name__ == "__main__":
    launch(main, define_flags, arguments=(1, 1), resumes=True)
