"""How much each group of filters matters: pruned alone, at several rates."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from rich import progress as rich_progress

from pgmpf_tf._checks import (
    check_bool,
    check_choice,
    check_number,
    check_path,
    check_sequence,
    check_strings,
    check_type,
    received,
)
from pgmpf_tf.backends.data import batches
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.units import Analysis, Group
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.contributions import check_repeatable
from pgmpf_tf.scores.output_distance import NAME, OutputDistance
from pgmpf_tf.scores.ranking import keep_mask
from pgmpf_tf.scores.record import Record
from pgmpf_tf.scores.sensitivity_table import Sensitivity

MODES = ("auto", "max", "min")


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
    if the measurement is interrupted. Without labels, the metric is how far the outputs
    move, `"output_distance"`: root mean square over their standard deviation.

    Example:
        >>> table = pgmpf_tf.sensitivity(model, (images, labels), path="table.json")
        >>> print(table)
        >>> table.save_heatmap("table.png")

    Args:
        model: a Keras model, plain or wrapped; compiled, if data have targets.
        data: what `evaluate` takes, but no generator: `(x, y)`, a `tf.data.Dataset` or
            a `PyDataset`, which is gone through once per group and rate; or inputs
            alone, which are held in memory.
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
            is out of range, a name unknown, if data can be gone through only once or
            lack the targets that a metric needs, if Keras does not know whether the
            metric shall be high, or if the file at `path` holds another measurement;
            delete it then, or name another.
    """
    check_type("model", model, keras.Model, "a Keras model")
    rates = _sorted_rates(rates)
    check_type("metric", metric, (str, type(None)), "a name or None")
    check_choice("mode", mode, MODES)
    exclude = check_strings("exclude", exclude, "layer-name patterns")
    record = Record(None if path is None else check_path("path", path))
    progress = check_bool("progress", progress)
    targets = _has_targets(model, data, metric)
    scorer = _scorer(criterion, model, data)
    analysis = analyze(model, coupling=coupling, exclude=exclude)
    analysis.check_groups()
    scorer.check(analysis.groups)
    settings: dict[str, Any] = {
        "weights": _fingerprint(model),
        "criterion": _name(scorer),
        "coupling": coupling,
        "exclude": list(exclude),
    }
    evaluate: Callable[[], dict[str, float]]
    evaluate = functools.partial(_evaluate, model, data)
    if not targets:
        distance = OutputDistance(model, data)
        evaluate, metric = distance.measure, NAME
        settings["outputs"] = distance.fingerprint
    logs = evaluate()
    metric = _metric(model, logs, metric)
    record.open({**settings, "metric": metric}, logs[metric])
    higher = targets and _higher_is_better(model, metric, mode)
    scores = scorer.scores(analysis.groups, (model,))

    def measure(group: Group, mask: np.ndarray) -> float:
        removed = int((mask == 0).sum())
        if not record.has(group.name, removed):
            with _without(analysis, group, mask):
                value = evaluate()[metric]
            record.add(group.name, removed, value)
        return record.value(group.name, removed)

    values = _of_all(analysis.groups, scores, rates, measure, progress)
    names = tuple(group.name for group in analysis.groups)
    return Sensitivity(names, rates, values, logs[metric], metric, higher)


def _scorer(criterion: Any, model: keras.Model, data: Any) -> criteria.Criterion:
    """The criterion, with data if it needs some and has none."""
    scorer = criteria.resolve(criterion).seeded(0)
    if scorer.needs_data and getattr(scorer, "data", None) is None:
        scorer = scorer.with_data(data)
    scorer.check_data((model,))
    return scorer


def _of_all(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    rates: Sequence[float],
    measure: Callable[[Group, np.ndarray], float],
    progress: bool,
) -> np.ndarray:
    """The metric by group and rate."""
    values = np.empty((len(groups), len(rates)))
    with _progress_bar(progress) as bar:
        task = bar.add_task("", total=values.size)
        for row, group in enumerate(groups):
            bar.update(task, description=group.name)
            for column, rate in enumerate(rates):
                values[row, column] = measure(group, keep_mask(scores[row], rate))
                bar.advance(task)
    return values


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


def _has_targets(model: keras.Model, data: Any, metric: str | None) -> bool:
    """Whether a metric is to be measured; else it is the distance of the outputs.

    A model that is compiled without a loss may have one of its own, without targets.
    """
    check_repeatable("data", data)
    ((_, y, _),) = batches("data", data, 1)
    if y is None and not (model.compiled and model._compile_loss is None):
        if metric not in (None, NAME):
            raise ValueError(
                f"`data` must have targets for the metric {metric!r}: (x, y), or "
                f"batches of that. Received: data of type {type(data).__name__} "
                "without targets"
            )
        return False
    if not model.compiled:
        raise ValueError(
            "`model` must be compiled with the metric to measure, or `data` be without "
            f"targets. {received('model', model.name)}"
        )
    return True


def _sorted_rates(rates: Any) -> tuple[float, ...]:
    """The rates in ascending order, each once."""
    numbers = {
        check_number(f"rates[{place}]", rate, "[0, 1)", "a fraction")
        for place, rate in enumerate(check_sequence("rates", rates, "numbers"))
    }
    if not numbers:
        raise ValueError(
            f"`rates` must hold one number at least. {received('rates', rates)}"
        )
    return tuple(sorted(numbers))
