"""How much each group of filters matters: pruned alone, at several rates."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgmpf_tf._files import staged
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.units import Analysis, Group
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.contributions import check_data
from pgmpf_tf.scores.ranking import keep_mask

MODES = ("auto", "max", "min")


@dataclass(frozen=True)
class Sensitivity:
    """A metric with one group of filters pruned at a time, nothing retrained.

    Attributes:
        groups: names of the groups, in graph order.
        rates: the fractions of filters removed.
        values: the metric, float array of shape `(groups, rates)`.
        baseline: the metric with nothing pruned.
        metric: the metric's name.
        higher_is_better: whether larger values of the metric are better.
    """

    groups: tuple[str, ...]
    rates: tuple[float, ...]
    values: np.ndarray
    baseline: float
    metric: str
    higher_is_better: bool

    @property
    def drop(self) -> np.ndarray:
        """How much worse than the baseline; below 0 where pruning makes it better.

        In units of the metric, shape `(groups, rates)`; infinite where the metric is
        not a number.
        """
        drop = self.values - self.baseline
        drop = -drop if self.higher_is_better else drop
        return np.where(np.isnan(drop), np.inf, drop)

    def __rich__(self) -> Table:
        """A row per group, a column per rate; the redder a cell, the worse."""
        table = Table(
            title=f"{self.metric}, one group pruned (dense {self.baseline:.4g})"
        )
        table.add_column("group", overflow="fold")
        for rate in self.rates:
            table.add_column(f"{rate:.0%}", justify="right")
        shades = self.shades
        for group, values, row in zip(self.groups, self.values, shades, strict=True):
            cells = (
                Text(f"{value:.4g}", style=f"black on {_colour(shade)}")
                for value, shade in zip(values, row, strict=True)
            )
            table.add_row(group, *cells)
        return table

    def __str__(self) -> str:
        """The table as plain text."""
        console = Console(width=120)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def save_heatmap(self, path: str | os.PathLike[str]) -> Path:
        """Draws groups and rates as a heat map of the drop.

        Args:
            path: an image file that matplotlib can write, such as a `.png`.

        Returns:
            The path.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: the folder cannot be written, or the format is not known.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'The heat map needs matplotlib: pip install "pgmpf_tf[plots]"'
            ) from error
        path = Path(path)
        figure = Figure(
            figsize=(2.5 + 0.8 * len(self.rates), 1.2 + 0.3 * len(self.groups)),
            layout="constrained",
        )
        axes = figure.add_subplot()
        image = axes.imshow(self.drop, cmap="YlOrRd", aspect="auto")
        axes.set_xticks(range(len(self.rates)), [f"{rate:.0%}" for rate in self.rates])
        axes.set_yticks(range(len(self.groups)), self.groups)
        axes.set_xlabel("filters removed")
        for (row, column), shade in np.ndenumerate(self.shades):
            axes.text(
                column,
                row,
                f"{self.values[row, column]:.3g}",
                ha="center",
                va="center",
                color="white" if shade > 0.6 else "black",
            )
        axes.set_title(f"{self.metric} (dense: {self.baseline:.3g})")
        figure.colorbar(image, label=f"worse by ({self.metric})")
        with staged(path.parent) as folder:
            figure.savefig(folder / path.name, dpi=150)
        return path

    @property
    def shades(self) -> np.ndarray:
        """The drop in [0, 1]: 0 no worse than the baseline, 1 the worst of all."""
        drop = self.drop
        finite = drop[np.isfinite(drop)]
        largest = max(finite.max(initial=0.0), np.finfo(float).tiny)
        return np.clip(drop / largest, 0.0, 1.0)


def _colour(shade: float) -> str:
    """From pale green over yellow to red, light enough for black text."""
    red = 190 + round(65 * min(2 * shade, 1.0))
    green = 235 - round(115 * max(2 * shade - 1.0, 0.0))
    return f"rgb({red},{green},130)"


def sensitivity(
    model: keras.Model,
    data: Any,
    rates: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    *,
    metric: str | None = None,
    mode: str = "auto",
    criterion: str | criteria.Criterion | criteria.Scorer = "l2",
    coupling: str = "grouped",
    exclude: str | Sequence[str] = (),
    path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Measures what pruning each group of filters alone does to a metric.

    Nothing is retrained. The model has its weights back afterwards, bit for bit, also
    if the measurement is interrupted.

    Example:
        >>> table = pgmpf_tf.sensitivity(model, (images, labels), path="table.json")
        >>> print(table)
        >>> table.save_heatmap("table.png")

    Args:
        model: a compiled Keras model, plain or wrapped.
        data: what `evaluate` takes, with targets, but no generator: `(x, y)`, a
            `tf.data.Dataset` or a `PyDataset`. It is gone through once per group and
            rate.
        rates: the fractions of a group to remove, each in [0, 1); the result has them
            in ascending order.
        metric: a name that `evaluate` reports. None takes the first metric that the
            model is compiled with, or its loss.
        mode: whether the metric is better when `"max"` or `"min"`; `"auto"` takes what
            Keras knows of it.
        criterion: which filters of a group go first; see `wrap`. `"taylor"` and
            `criteria.Taylor()` look at `data`.
        coupling: see `wrap`.
        exclude: name patterns of layers whose filters stay.
        path: a JSON file to which every result is written at once, and whose results
            are not measured again; rates may be added. It must be of the same weights,
            metric and options, and its baseline that on these data.
        progress: whether to show a progress bar.

    Returns:
        The metric by group and rate.

    Raises:
        TypeError: if an argument is of a wrong type.
        ValueError: if the model is not compiled or has nothing to prune, if an argument
            is out of range, a name unknown, if data can be gone through only once, if
            Keras does not know whether the metric shall be high, or if the file at
            `path` holds another measurement; delete it then, or name another.
    """
    rates = _checked(model, data, rates, mode)
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    scorer = criteria.resolve(criterion).seeded(0)
    if scorer.needs_data and getattr(scorer, "data", None) is None:
        scorer = scorer.with_data(data)
    analysis = analyze(model, coupling=coupling, exclude=exclude)
    analysis.check_groups()
    scorer.check(analysis.groups)
    record = _Record(path)
    logs = _evaluate(model, data)
    metric = _metric(model, logs, metric)
    record.open(
        {
            "weights": _fingerprint(model),
            "metric": metric,
            "criterion": _name(scorer),
            "coupling": coupling,
            "exclude": list(exclude),
        },
        logs[metric],
    )
    higher = _higher_is_better(model, metric, mode)
    scores = scorer.scores(analysis.groups, (model,))
    values = np.empty((len(analysis.groups), len(rates)))
    with _progress_bar(progress) as bar:
        task = bar.add_task("", total=values.size)
        for row, group in enumerate(analysis.groups):
            bar.update(task, description=group.name)
            for column, rate in enumerate(rates):
                mask = keep_mask(scores[row], rate)
                removed = int((mask == 0).sum())
                if not record.has(group.name, removed):
                    with _without(analysis, group, mask):
                        value = _evaluate(model, data)[metric]
                    record.add(group.name, removed, value)
                values[row, column] = record.value(group.name, removed)
                bar.advance(task)
    names = tuple(group.name for group in analysis.groups)
    return Sensitivity(names, rates, values, logs[metric], metric, higher)


def _evaluate(model: keras.Model, data: Any) -> dict[str, float]:
    parts = data if isinstance(data, tuple) else (data,)
    arguments = dict(zip(("x", "y", "sample_weight"), parts, strict=False))
    logs = model.evaluate(**arguments, verbose=0, return_dict=True)
    return {name: float(value) for name, value in logs.items()}


@contextlib.contextmanager
def _without(analysis: Analysis, group: Group, mask: np.ndarray) -> Iterator[None]:
    """Prunes units of a group for a while."""
    # The last entry is for slices without a unit.
    factors = np.ones(analysis.unit_count + 1, np.float32)
    factors[group.units] = mask
    before = [
        keras.ops.convert_to_numpy(member.variable).copy() for member in group.members
    ]
    try:
        for member in group.members:
            member.scale(factors[member.units])
        yield
    finally:
        for member, value in zip(group.members, before, strict=True):
            member.variable.assign(value)


class _Record:
    """The results so far, in memory and in a file.

    Args:
        path: the file, or None.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is not None and self._path.is_dir():
            raise ValueError(f"`path` must be a file. Received: path={str(path)!r}")
        self._content: dict[str, Any] = {}

    def open(self, identity: dict[str, Any], baseline: float) -> None:
        """Takes the results of the file, if there is one and it is of the same kind."""
        self._content = {**identity, "baseline": baseline, "values": {}}
        if self._path is None or not self._path.exists():
            return
        try:
            found = json.loads(self._path.read_text("utf-8"))
            other = [name for name, value in identity.items() if found[name] != value]
            if not np.isclose(found["baseline"], baseline, 1e-4, 1e-6, equal_nan=True):
                other.append("baseline")
            values = dict(found["values"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"`path` must be a file that `sensitivity` wrote. Received: "
                f"path={str(self._path)!r}"
            ) from error
        if other:
            raise ValueError(
                "The file holds another measurement. Delete it, or name another. "
                f"Received: path={str(self._path)!r}, which differs in "
                + ", ".join(
                    f"{name} ({found[name]!r}, now {self._content[name]!r})"
                    for name in other
                )
            )
        self._content["values"] = values

    def has(self, group: str, removed: int) -> bool:
        return not removed or str(removed) in self._content["values"].get(group, {})

    def value(self, group: str, removed: int) -> float:
        """The metric without so many units of a group; the baseline without none."""
        if not removed:
            return self._content["baseline"]
        return self._content["values"][group][str(removed)]

    def add(self, group: str, removed: int, value: float) -> None:
        self._content["values"].setdefault(group, {})[str(removed)] = value
        if self._path is not None:
            with staged(self._path.parent) as folder:
                text = json.dumps(self._content, indent=1)
                (folder / self._path.name).write_text(text, "utf-8")


def _progress_bar(shown: bool) -> rich_progress.Progress:
    return rich_progress.Progress(
        rich_progress.TextColumn("sensitivity of {task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        disable=not shown,
    )


def _fingerprint(model: keras.Model) -> str:
    """A hash of all weights."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{variable.path} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _name(criterion: criteria.Criterion) -> str:
    """What a file says of a criterion."""
    names = (
        name
        for name, kind in criteria.CRITERIA.items()
        if kind().seeded(0) == criterion.with_data(None)
    )
    return next(names, repr(criterion))


def _metric(model: keras.Model, logs: dict[str, float], metric: str | None) -> str:
    if metric is None:
        losses = {"loss"}
        if model._compile_loss is not None:
            losses |= {loss.name for loss in model._compile_loss.metrics}
        # `evaluate` reports in alphabetical order, this in the order of `compile`.
        names = model.get_metrics_result()
        return next((name for name in names if name not in losses), "loss")
    if metric not in logs:
        raise ValueError(
            f"`metric` must be one that `evaluate` reports: {', '.join(logs)}. "
            f"Received: metric={metric!r}"
        )
    return metric


def _higher_is_better(model: keras.Model, metric: str, mode: str) -> bool:
    # Keras' own callback knows the directions of Keras' own metrics.
    monitor = keras.callbacks.EarlyStopping(metric, mode=mode)
    monitor.set_model(model)
    try:
        monitor._set_monitor_op()
    except ValueError as error:
        raise ValueError(
            f"Keras does not know whether the metric {metric!r} shall be high: pass "
            "`mode='max'` or `mode='min'`. Received: mode='auto'"
        ) from error
    return monitor.monitor_op is keras.ops.greater


def _checked(
    model: Any, data: Any, rates: Sequence[float], mode: str
) -> tuple[float, ...]:
    """The rates in ascending order, if the arguments are in order."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
    if not model.compiled:
        raise ValueError(
            "`model` must be compiled with the metric to measure. "
            f"Received: model={model.name!r}"
        )
    check_data("data", data)
    if mode not in MODES:
        raise ValueError(
            f"`mode` must be one of {', '.join(map(repr, MODES))}. "
            f"Received: mode={mode!r}"
        )
    try:
        array = np.unique(np.asarray(rates, np.float64))
    except (TypeError, ValueError):
        array = np.zeros(0)
    if not array.size or np.ndim(rates) != 1:
        raise TypeError(f"`rates` must be a list of numbers. Received: rates={rates!r}")
    if not ((array >= 0.0) & (array < 1.0)).all():
        raise ValueError(f"`rates` must lie in [0, 1). Received: rates={rates!r}")
    return tuple(array.tolist())
