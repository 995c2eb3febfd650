r"""Train a network, prune it while it is fine-tuned, and write the small network.

    python -m experiments.train --dataset=fashion_mnist --model=resnet20 \
        --rate=0.5 --method=pgmpf --output_dir=runs/fashion

One run is one folder: its settings (settings.json), a line per epoch (metrics.jsonl),
the networks (dense.keras, pruned.keras, compacted.keras), the exports (exports/), and
in the end result.json. The same command goes on where a killed run stopped; of a
finished run it prints the result again.

Flags that are not given take the value of --recipe.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Any

import rich
from absl import flags

from experiments.run import presentation, strategies
from experiments.run import runner as runs
from experiments.run.launching import launch
from experiments.run.settings import RECIPES, RunSettings, resolve


def define_flags() -> None:
    """A flag for every field of `RunSettings`, without a value until it is given."""
    flags.DEFINE_string("output_dir", None, "Folder of the run.", required=True)
    flags.DEFINE_enum(
        "recipe",
        "quick",
        list(RECIPES),
        "Default values: quick is for small data on a CPU; the others are the paper's.",
    )
    types = typing.get_type_hints(RunSettings)
    for field in dataclasses.fields(RunSettings):
        _define_flag(field, types[field.name])


def _define_flag(field: dataclasses.Field[Any], type_: Any) -> None:
    default, choices = field.default, field.metadata["choices"]
    shown = ",".join(default) if isinstance(default, tuple) else default
    text = field.metadata["help"]
    if shown not in (None, ""):
        text += f" (quick: {shown})"
    members = {*typing.get_args(type_), type_}
    if choices:
        flags.DEFINE_enum(field.name, None, choices, text)
    elif isinstance(default, tuple):
        flags.DEFINE_list(field.name, None, text)
    elif bool in members:
        flags.DEFINE_boolean(field.name, None, text)
    elif int in members:
        flags.DEFINE_integer(field.name, None, text)
    elif float in members:
        flags.DEFINE_float(field.name, None, text)
    else:
        flags.DEFINE_string(field.name, None, text)


def settings_from_flags() -> RunSettings:
    """The recipe with what the command line changes.

    Raises:
        ValueError: if a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(RunSettings)]
    values = {name: flags.FLAGS[name].value for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if "lr_drops" in given:
        given["lr_drops"] = [_fraction(drop) for drop in given["lr_drops"]]
    return resolve(flags.FLAGS.recipe, **given)


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"`lr_drops` must be fractions in (0, 1). Received: {text!r}"
        ) from error


def main(_: list[str]) -> None:
    """Runs what the flags say."""
    chosen, output_dir = settings_from_flags(), flags.FLAGS.output_dir
    strategy = strategies.strategy(chosen.strategy)
    try:
        result = runs.run(chosen, output_dir, strategy)
    except strategies.LOST_WORKER as error:
        if not strategies.is_multi_worker(strategy):
            raise
        sys.exit(
            "Another worker has died or cannot be reached. Start all workers again "
            "with the same flags to go on after the last whole epoch. "
            f"({error.message})"
        )
    if result:
        rich.print(presentation.table(result))
        rich.print(f"The run in {output_dir} is finished.")


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
