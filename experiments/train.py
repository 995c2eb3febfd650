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
from absl import app, flags

from experiments.run import report, settings, training
from experiments.run import runner as runs

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the run.", required=True
)
_RECIPE = flags.DEFINE_enum(
    "recipe",
    "quick",
    list(settings.RECIPES),
    "Default values: quick is for small data on a CPU; the others are the paper's.",
)


def _define_flags() -> dict[str, flags.FlagHolder]:
    """A flag for every field of `Settings`, without a value until it is given."""
    types = typing.get_type_hints(settings.Settings)
    return {
        field.name: _define_flag(field, types[field.name])
        for field in dataclasses.fields(settings.Settings)
    }


def _define_flag(field: dataclasses.Field, type_: Any) -> flags.FlagHolder:
    default, choices = field.default, field.metadata["choices"]
    shown = ",".join(default) if isinstance(default, tuple) else default
    text = field.metadata["help"]
    if shown not in (None, ""):
        text += f" (quick: {shown})"
    if choices:
        return flags.DEFINE_enum(field.name, None, choices, text)
    members = {*typing.get_args(type_), type_}
    if isinstance(default, tuple):
        return flags.DEFINE_list(field.name, None, text)
    if int in members:
        return flags.DEFINE_integer(field.name, None, text)
    if float in members:
        return flags.DEFINE_float(field.name, None, text)
    return flags.DEFINE_string(field.name, None, text)


_FLAGS = _define_flags()


def settings_from_flags() -> settings.Settings:
    """The recipe with what the command line changes.

    Raises:
        ValueError: if a value is out of range.
    """
    given = {
        name: holder.value
        for name, holder in _FLAGS.items()
        if holder.value is not None
    }
    if "lr_drops" in given:
        given["lr_drops"] = [float(drop) for drop in given["lr_drops"]]
    return settings.resolve(_RECIPE.value, **given)


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    training.quiet()
    try:
        chosen = settings_from_flags()
        strategy = training.strategy(chosen.strategy)
        result = runs.run(chosen, _OUTPUT_DIR.value, strategy)
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    except training.LOST_WORKER as error:
        if not training.is_multi_worker(strategy):
            raise
        sys.exit(
            "Another worker has died or cannot be reached. Start all workers again "
            "with the same flags to go on after the last whole epoch. "
            f"({error.message})"
        )
    if result:
        rich.print(report.table(result))
        rich.print(f"The run in {_OUTPUT_DIR.value} is finished.")


if __name__ == "__main__":
    app.run(main)
