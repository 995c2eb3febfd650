"""Dense beside small: one table from two profiles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table

from pgmpf_tf._checks import check_type
from pgmpf_tf.channels.graph import functional_of
from pgmpf_tf.exporting import samples
from pgmpf_tf.exporting.results import OutputError
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.exporting.verification import compare_outputs
from pgmpf_tf.profiling import LayerProfile, Profile, profile

SAMPLES = 256
"""On how many samples models are compared."""


@dataclass(frozen=True)
class Comparison:
    """Two profiles side by side; `print` shows the table, and so does rich.

    Attributes:
        dense: the profile of the model before pruning.
        small: the profile of the model after.
        outputs: how far the small model's outputs are from the dense one's on the data
            given; empty without data.
        samples: how many samples that were.
    """

    dense: Profile
    small: Profile
    outputs: tuple[OutputError, ...] = ()
    samples: int = 0

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
            caption="\n".join(self._agreement()) or None,
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

    def _agreement(self) -> Iterator[str]:
        """A line for each output: how far it is from the dense network's."""
        for error in self.outputs:
            yield f"{error.name} on {self.samples} samples: {describe(error)}"

    def __str__(self) -> str:
        """The table as plain text, as wide as the terminal."""
        console = Console(width=shutil.get_terminal_size((120, 25)).columns)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


def describe(error: OutputError) -> str:
    """How far an output is from the dense network's, in words."""
    parts = []
    if error.top1_agreement is not None:
        parts.append(f"same top class {error.top1_agreement:.1%}")
    parts.append(f"relative error {error.relative_error:.1%}")
    if error.correlation is not None:
        parts.append(f"correlation {error.correlation:.4f}")
    return ", ".join(parts)


def compare(
    dense: keras.Model | Profile, small: keras.Model | Profile, data: Any = None
) -> Comparison:
    """Compares what two models cost, layer by layer (matched by name) and in all.

    With data it also says how far the small model's outputs are from the dense one's:
    labels are not needed.

    ```python
    print(pgmpf_tf.compare(dense, pgmpf_tf.compact(pruned), images))
    ```

    Args:
        dense: the model before pruning, or its profile.
        small: the model after, or its profile.
        data: samples to run both on, the first 256, as `export` takes them; then both
            must be models.

    Returns:
        The comparison; its `macs_removed` and `params_removed` are fractions, its
        `outputs` has an `OutputError` for each output of the models.

    Raises:
        TypeError: neither a Keras model nor a profile; or a profile, with data.
        ValueError: a model that `profile` cannot count, or data that do not fit.
        VerificationError: the models differ in the shapes of their outputs.
    """
    profiles = _profile("dense", dense), _profile("small", small)
    if data is None:
        return Comparison(*profiles)
    for name, value in (("dense", dense), ("small", small)):
        check_type(name, value, keras.Model, "a keras.Model where `data` is given")
    reference = Signature.of(dense)
    inputs = samples.collect("data", data, reference.inputs, SAMPLES)
    errors = compare_outputs(reference, Signature.of(small), inputs)
    return Comparison(*profiles, errors, samples.size(inputs))


def _profile(argument: str, value: keras.Model | Profile) -> Profile:
    if isinstance(value, Profile):
        return value
    check_type(argument, value, keras.Model, "a keras.Model or a Profile")
    functional_of(value, argument)
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
