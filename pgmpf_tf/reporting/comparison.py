"""Dense beside small: one table from two profiles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import keras
from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table

from pgmpf_tf._checks import check_type
from pgmpf_tf.profiling import LayerProfile, Profile, profile


@dataclass(frozen=True)
class Comparison:
    """Two profiles side by side; `print` shows the table, and so does rich.

    Attributes:
        dense: the profile of the model before pruning.
        small: the profile of the model after.
    """

    dense: Profile
    small: Profile

    @property
    def macs_removed(self) -> float:
        """The fraction of multiply-accumulates that is gone; below 0 if it grew."""
        return _removed(self.dense.macs, self.small.macs)

    @property
    def params_removed(self) -> float:
        """The fraction of parameters that is gone; below 0 if it grew."""
        return _removed(self.dense.params, self.small.params)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Table]:
        """The table; where it is too narrow for shapes, one without."""
        table = self._table(shapes=True)
        # A measurement is never wider than the options that it is taken with.
        anywhere = options.update(max_width=10_000)
        needed = Measurement.get(console, anywhere, table).minimum
        yield table if needed <= options.max_width else self._table(shapes=False)

    def _table(self, shapes: bool) -> Table:
        """A row per layer that either model multiplies in, and the totals."""
        table = Table(
            title=f"{self.dense.name}: dense and small",
            box=SIMPLE,
            padding=(0, 0, 0, 1),
            show_edge=False,
        )
        # Names are folded: half a number would be a wrong one.
        table.add_column("layer", overflow="fold", min_width=10)
        for heading in ("output", "MACs", "parameters")[0 if shapes else 1 :]:
            table.add_column(heading, justify="right", no_wrap=True)
            table.add_column("small", justify="right", no_wrap=True)
            if heading != "output":
                table.add_column("change", justify="right", no_wrap=True)
        small = {row.name: row for row in self.small.layers}
        dense = {row.name: row for row in self.dense.layers}
        for name in dict.fromkeys((*dense, *small)):
            before, after = dense.get(name), small.get(name)
            if any(row is not None and row.macs for row in (before, after)):
                outputs = (_shapes(before), _shapes(after)) if shapes else ()
                table.add_row(name, *outputs, *_costs(before, after))
        table.add_section()
        empty = ("", "") if shapes else ()
        table.add_row("total", *empty, *_costs(self.dense, self.small))
        return table

    def __str__(self) -> str:
        """The table as plain text, as wide as the terminal."""
        console = Console(width=shutil.get_terminal_size((120, 25)).columns)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


def compare(dense: keras.Model | Profile, small: keras.Model | Profile) -> Comparison:
    """Compares what two models cost, layer by layer (matched by name) and in all.

    ```python
    print(pgmpf_tf.compare(dense, pgmpf_tf.compact(pruned)))
    ```

    Args:
        dense: the model before pruning, or its profile.
        small: the model after, or its profile.

    Returns:
        The comparison; its `macs_removed` and `params_removed` are fractions.

    Raises:
        TypeError: neither a Keras model nor a profile.
        ValueError: a model that `profile` cannot count.
    """
    return Comparison(_profile("dense", dense), _profile("small", small))


def _profile(argument: str, value: keras.Model | Profile) -> Profile:
    if isinstance(value, Profile):
        return value
    check_type(argument, value, keras.Model, "a keras.Model or a Profile")
    return profile(value)


def _removed(before: int, after: int) -> float:
    return 1 - after / before if before else 0.0


def _shapes(row: LayerProfile | None) -> str:
    return " x ".join(map(str, row.output_shape[1:])) if row else "-"


def _costs(
    before: Profile | LayerProfile | None, after: Profile | LayerProfile | None
) -> tuple[str, ...]:
    cells: list[str] = []
    for cost in ("macs", "params"):
        old, new = (getattr(row, cost) if row else 0 for row in (before, after))
        change = f"{new / old - 1:+.1%}" if old else "new"
        cells += [f"{old:,}", f"{new:,}", change]
    return tuple(cells)
