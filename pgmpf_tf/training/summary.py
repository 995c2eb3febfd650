"""The table that `pruning_summary()` prints."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pgmpf_tf.scores.ranking import kept_count
from pgmpf_tf.training.pruner import Pruner


def print_summary(
    name: str, pruner: Pruner, print_fn: Callable[[str], None] | None
) -> None:
    """Prints the groups of a wrapped model and what is pinned.

    Args:
        name: the model's name.
        pruner: groups and masks.
        print_fn: takes the text instead of standard output.
    """
    tables = [_groups_table(name, pruner)]
    if pruner.analysis.pins:
        tables.append(_pins_table(pruner))
    if print_fn is None:
        Console().print(*tables)
        return
    text = io.StringIO()
    Console(file=text, width=100).print(*tables)
    print_fn(text.getvalue())


def _groups_table(name: str, pruner: Pruner) -> Table:
    table = Table(title=f"Pruning of {name!r}", box=SIMPLE)
    table.add_column("group", overflow="fold")
    table.add_column("layers with its filters", overflow="fold")
    for heading in ("filters", "kept now", "in the end", "rate"):
        table.add_column(heading, justify="right", no_wrap=True)
    masks, round_to = pruner.masks(), pruner.round_to
    rates = {g.name: r for g, r in zip(pruner.groups, pruner.rates, strict=True)}
    for group in pruner.analysis.groups:
        # What follows the filters (a BatchNorm, say) goes without saying.
        layers = (m.path for m in group.members if m.role == "kernel")
        table.add_row(
            group.name,
            ", ".join(dict.fromkeys(layers)),
            str(len(group.units)),
            str(int(masks[group.name].sum())),
            str(kept_count(len(group.units), rates.get(group.name, 0.0), round_to)),
            f"{rates.get(group.name, 0.0):.1%}",
        )
    return table


def _pins_table(pruner: Pruner) -> Table:
    table = Table(title="Filters that stay whatever the criterion says", box=SIMPLE)
    table.add_column("layer", overflow="fold")
    table.add_column("filters", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for pin in pruner.analysis.pins:
        filters = pruner.analysis.filters.get(pin.layer)
        count = f"{pin.filters} of {filters}" if filters else str(pin.filters)
        table.add_row(pin.layer, count, pin.reason)
    return table
