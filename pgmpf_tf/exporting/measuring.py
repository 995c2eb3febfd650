"""`measure`: times the parts of a network at many widths, for budgets of latency."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import Progress

from pgmpf_tf._checks import (
    check_bool,
    check_choice,
    check_integer,
    check_path,
    received,
)
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.budgets.times import Point, Times
from pgmpf_tf.budgets.whole import Whole
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import Graph, functional_of
from pgmpf_tf.channels.units import Analysis
from pgmpf_tf.compaction import compact_as, rebuild_part
from pgmpf_tf.exporting.designs import (
    TURNS,
    designs,
    removed_when,
    spread,
    thinned,
)
from pgmpf_tf.exporting.formats.onnx_parts import OnnxParts
from pgmpf_tf.exporting.formats.parts import Parts
from pgmpf_tf.exporting.formats.saved_model_parts import SavedModelParts
from pgmpf_tf.exporting.formats.tflite_parts import TFLiteParts
from pgmpf_tf.inserting import Inserting

# What groups keep in the networks that are timed as a whole.
_WHOLE = {"grouped": (1.0, 0.8, 0.6, 0.4, 0.3, 0.2), "independent": (0.8, 0.6, 0.35)}
# What waits for memory takes some percent more or less in another series.
_SERIES = 3
# So many parts of the whole network are timed again beside all others.
_YARDSTICK = 5

_CHUNK = 40


RUNTIMES: dict[str, type[Parts]] = {
    "tflite": TFLiteParts,
    "onnx": OnnxParts,
    "saved_model": SavedModelParts,
}
"""What can time parts of networks, by the name of the format that it runs."""


def measure(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    runtime: str = "tflite",
    precision: str = "float32",
    threads: int = 1,
    verbose: bool = True,
) -> LatencyTable:
    """Measures what the parts of a network take at many widths, on this machine.

    The file is for `Budget(latency=..., latency_table=path)`, here or on another
    machine. It is written as the times are found: a run that was interrupted goes on,
    and a file may hold the times of several networks.

    Args:
        model: a built Keras model; its weights do not matter.
        path: the JSON file; times that it holds are not measured again.
        runtime: the software, by the format that it runs: `"tflite"` (LiteRT), `"onnx"`
            (ONNX Runtime) or `"saved_model"` (TensorFlow), each on the processor.
        precision: `"float32"`; with TFLite also `"int8"`.
        threads: threads that an operation may use; operations run one after another.
            With one, processor time is measured, and other work on the machine matters
            little.
        verbose: whether progress is shown.

    Returns:
        The table that was written.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the model is not built, an argument is out of range, the file holds
            something else, or Keras runs on another backend than TensorFlow.
        ImportError: the runtime is not installed.

    Warns:
        UserWarning: parts that the runtime cannot run by themselves count as nothing.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`measure` works on Keras' TensorFlow backend, whatever the model was "
            "trained on: set the environment variable KERAS_BACKEND to tensorflow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
        )
    check_choice("runtime", runtime, RUNTIMES)
    check_choice("precision", precision, RUNTIMES[runtime].precisions)
    check_integer("threads", threads, 1)
    check_bool("verbose", verbose)
    file = check_path("path", path)
    grouped = analyze(model)
    _check_sizes(model)
    parts = RUNTIMES[runtime](precision, threads)
    settings = runtime, precision, threads, _machine()
    table = LatencyTable(*settings, input_step=parts.input_step)
    if file.exists():
        table = _continued(table, file)
    table.save(file)  # it cannot be written: better now than in an hour
    run = _Run(model, grouped, table, parts, file)
    with Progress(console=Console(stderr=True), disable=not verbose) as progress:
        return run.all(progress)


def _check_sizes(model: keras.Model) -> None:
    for x in functional_of(model).inputs:
        if None in x.shape[1:]:
            raise ValueError(
                "`model` must have inputs of fixed sizes, apart from the batch. "
                f"Received: a model with the input {x.name!r} of shape {x.shape}"
            )


def _machine() -> str:
    return f"{platform.machine()}, {platform.processor() or platform.system()}"


def _continued(table: LatencyTable, file: Path) -> LatencyTable:
    old = LatencyTable.load(file)
    for name in ("runtime", "precision", "threads", "machine"):
        if getattr(old, name) != getattr(table, name):
            raise ValueError(
                f"`path` must be a new file, or a table measured with the same {name}, "
                f"{getattr(table, name)!r}. {received('path', str(file))} with "
                f"{name}={getattr(old, name)!r}"
            )
    return old


class _Run:
    """Measures one network.

    A machine is faster at one time than at another, and a table takes minutes. So some
    parts of the network are timed in turns with everything else, and all times are as
    if the machine had been as fast as in the beginning.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        table: LatencyTable,
        parts: Parts,
        file: Path,
    ) -> None:
        self._model, self._analysis = model, analysis
        self._table, self._parts, self._file = table, parts, file
        self._costs = CostModel(model, analysis)
        self._yardstick: list[keras.Model] = []
        self._length = 1.0

    def all(self, progress: Progress) -> LatencyTable:
        if self._costs.parts.network in self._table.networks:
            return self._table  # these are the last to be written
        segments = self._segments(progress)
        missing = [s for s in segments if s.family not in self._table.times]
        # All widths of a family are timed in turns: what is compared, is measured
        # at the same time. Insertions come last: a run that goes on needs times of the
        # network's own parts.
        missing.sort(key=lambda segment: (not segment.steps, segment.family))
        self._set_yardstick()
        task = progress.add_task("timing parts", total=len(missing))
        for chunk in _chunks(missing):
            self._time(chunk)
            progress.advance(task, len(chunk))
        self._whole(progress)
        return self._table

    def _segments(self, progress: Progress) -> list[Segment]:
        """What is to be timed."""
        found: dict[Segment, Segment] = {}
        for coupling, turns in TURNS.items():
            analysis = analyze(self._model, coupling=coupling)
            costs = CostModel(self._model, analysis)
            networks = list(designs(analysis, turns))
            task = progress.add_task(f"parts, {coupling}", total=len(networks))
            for removed in networks:
                for segment in costs.segments(removed):
                    found.setdefault(segment, segment)
                progress.advance(task)
        families: dict[str, list[Segment]] = {}
        for segment in found:
            families.setdefault(segment.family, []).append(segment)
        step = self._table.input_step
        return [s for family in families.values() for s in thinned(family, step)]

    def _time(self, segments: Sequence[Segment]) -> None:
        models: list[keras.Model | None] = [
            _model_of(self._costs.graph, segment) for segment in segments
        ]
        built = [model for model in models if model is not None]
        times = iter(self._timed(built))
        points: dict[str, list[Point]] = {s.family: [] for s in segments}
        for segment, model in zip(segments, models, strict=True):
            time = 0.0 if model is None else next(times)
            if time > 0.0:
                sizes = segment.width_in, segment.width_out
                point = Point(*sizes, time, segment.inside)
                points[segment.family].append(point)
        self._table = self._table.with_times(
            {family: Times(tuple(found)) for family, found in points.items()}
        )
        self._table.save(self._file)

    def _set_yardstick(self) -> None:
        """Takes parts that the table tells the times of; else what they take now."""
        removed = np.zeros(self._analysis.unit_count, bool)
        whole = {
            segment: model
            for segment in self._costs.segments(removed)
            if (model := _model_of(self._costs.graph, segment)) is not None
        }
        known = [s for s in whole if s.family in self._table.times]
        chosen = spread(known or [*whole], _YARDSTICK)
        models = [whole[segment] for segment in chosen]
        if known:
            times = [self._table.milliseconds([segment]) for segment in chosen]
        else:
            times = self._timed(models)
        # What the runtime does not run by itself is no measure.
        self._yardstick = [m for m, time in zip(models, times, strict=True) if time]
        self._length = sum(times)

    def _timed(self, models: Sequence[keras.Model]) -> list[float]:
        """Times of parts, 0 where the runtime cannot run one."""
        if not models:
            return []
        try:
            return self._as_fast((), models)[1]
        except ValueError as error:
            if len(models) == 1:
                names = ", ".join(layer.name for layer in models[0].layers[1:])
                warnings.warn(
                    f"The time of {names} is not counted: {error}", stacklevel=2
                )
                return [0.0]
            half = len(models) // 2
            return self._timed(models[:half]) + self._timed(models[half:])

    def _as_fast(
        self, whole: Sequence[keras.Model], inside: Sequence[keras.Model]
    ) -> tuple[list[float], list[float]]:
        """`Parts.times` on a machine that is as fast as in the beginning."""
        wholes, found = self._parts.times(whole, [*inside, *self._yardstick])
        found, again = found[: len(inside)], found[len(inside) :]
        faster = self._length / sum(again) if again else 1.0
        return [faster * time for time in wholes], [faster * time for time in found]

    def _whole(self, progress: Progress) -> None:
        small: list[keras.Model] = []
        found: list[Whole] = []
        count = sum(map(len, _WHOLE.values()))
        task = progress.add_task("timing whole networks", total=count + _SERIES)
        for coupling, parts in _WHOLE.items():
            analysis = analyze(self._model, coupling=coupling)
            costs = CostModel(self._model, analysis)
            for kept in parts:
                counts = [round(kept * len(g.units)) or 1 for g in analysis.groups]
                removed = removed_when(analysis, counts)
                small.append(compact_as(self._model, costs.without(removed)))
                found.append(self._table.whole([*costs.segments(removed)]))
                progress.advance(task)
        series = []
        for _ in range(_SERIES):
            series.append(self._as_fast(small, ())[0])
            progress.advance(task)
        known = tuple(
            whole._replace(milliseconds=float(np.median(times)))
            for whole, times in zip(found, zip(*series, strict=True), strict=True)
        )
        networks = {**self._table.networks, self._costs.parts.network: known}
        self._table = dataclasses.replace(self._table, networks=networks)
        self._table.save(self._file)


def _chunks(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Some at a time; a family is not torn apart."""
    chunk: list[Segment] = []
    for place, segment in enumerate(segments):
        torn = place > 0 and segments[place - 1].family == segment.family
        if len(chunk) >= _CHUNK and not torn:
            yield chunk
            chunk = []
        chunk.append(segment)
    if chunk:
        yield chunk


def _model_of(graph: Graph, segment: Segment) -> keras.Model | None:
    """A model of a segment alone, with any weights; None if it reads nothing."""
    if not segment.steps:
        return _gather_of(segment)
    if not any(x is not None for x in segment.steps[0].required):
        return None
    model = rebuild_part(graph, segment.steps)
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            generator.uniform(0.1, 1.0, w.shape).astype(w.dtype)
            if np.issubdtype(w.dtype, np.floating)
            else w
            for w in model.get_weights()
        ]
    )
    return model


def _gather_of(segment: Segment) -> keras.Model:
    described = json.loads(segment.family)
    axis, kind = described["axis"], described["gather"]
    have, want = int(segment.width_in), int(segment.width_out)
    shape = [1, *(size or 1 for size in described["shape"])]
    shape[axis] = have
    inputs = keras.Input(batch_shape=tuple(shape))
    generator = np.random.default_rng(0)
    numbers = np.full(want, -1)
    if kind == "pad":
        numbers[:have] = np.arange(have)
    else:
        count = min(have, want if kind == "take" else want - 1)
        places = np.sort(generator.permutation(want)[:count])
        numbers[places] = np.sort(generator.permutation(have)[:count])
    return keras.Model(inputs, Inserting(deep=False).gather(inputs, axis, numbers))
