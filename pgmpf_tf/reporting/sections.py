"""What the sections of the page show: plain numbers and texts, ready to be laid out."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.exporting.results import Artifact, ExportReport
from pgmpf_tf.methods.config import PRESETS, PruningConfig
from pgmpf_tf.reporting.comparison import Comparison
from pgmpf_tf.reporting.figures import Chart, MaskImage, chart, mask_image
from pgmpf_tf.reporting.timeline import Timeline, times_returned
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.criterion import Criterion
from pgmpf_tf.scores.sensitivity_table import Sensitivity
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.wrapping import wrap

IMAGE_CHARACTERS = 250_000
"""How much the images of masks may add to the page; very large networks have more."""

_SCHEDULES = {
    "pruning_rate": "pruning rate P",
    "suppression": "suppression λ",
    "weight_mask": "weight mask a",
}


@dataclass(frozen=True)
class Quantity:
    """A number before and after.

    Attributes:
        name: what is counted.
        dense: of the dense model.
        small: of the small one.
        scale: the number that fills a bar.
    """

    name: str
    dense: int
    small: int
    scale: int

    @property
    def change(self) -> float:
        """The relative change; 0 if there was nothing."""
        return self.small / self.dense - 1 if self.dense else 0.0

    def width(self, number: int) -> float:
        """Of the bar of a number, in percent."""
        return round(100 * number / self.scale, 2) if self.scale else 0.0


@dataclass(frozen=True)
class Layers:
    """The layers of both models, in graph order.

    Attributes:
        filters: filters kept of all, per layer that has filters.
        macs: multiply-accumulates, per layer that has some.
        params: parameters of the same layers.
    """

    filters: tuple[Quantity, ...]
    macs: tuple[Quantity, ...]
    params: tuple[Quantity, ...]


def layers(dense: keras.Model, small: keras.Model, comparison: Comparison) -> Layers:
    """Holds the layers of two models against each other, by name.

    Raises:
        ValueError: if they have no layer with filters in common.
    """
    before, after = _filters(dense), _filters(small)
    if before and not set(before) & set(after):
        raise ValueError(
            "`small` must be what `compact` made of `dense`: its layers have the same "
            f"names. Received: small={small.name!r} with the layers {sorted(after)}"
        )
    filters = tuple(
        Quantity(name, count, after.get(name, 0), scale=count)
        for name, count in before.items()
    )
    return Layers(filters, _costs(comparison, "macs"), _costs(comparison, "params"))


def _filters(model: keras.Model) -> dict[str, int]:
    """How many filters each layer has, by its name: `compact` inlines nested models."""
    paths = analyze(model).filters
    return {path.rpartition("/")[2]: count for path, count in paths.items()}


def _costs(comparison: Comparison, cost: str) -> tuple[Quantity, ...]:
    """What each layer that multiplies costs in either model."""
    before, after = (
        {row.name: getattr(row, cost) for row in profile.layers if row.macs}
        for profile in (comparison.dense, comparison.small)
    )
    scale = max((*before.values(), *after.values()), default=0)
    return tuple(
        Quantity(name, before.get(name, 0), after.get(name, 0), scale)
        for name in dict.fromkeys((*before, *after))
    )


def totals(comparison: Comparison, layers: Layers) -> tuple[Quantity, ...]:
    """Multiply-accumulates, parameters and filters in all."""
    dense, small = comparison.dense, comparison.small
    pairs = {
        "Multiply-accumulates": (dense.macs, small.macs),
        "Parameters": (dense.params, small.params),
        "Filters": (
            sum(row.dense for row in layers.filters),
            sum(row.small for row in layers.filters),
        ),
    }
    return tuple(Quantity(name, *pair, scale=max(pair)) for name, pair in pairs.items())


def charts(times: Timeline) -> tuple[Chart, ...]:
    """The schedules, then every metric beside its value in validation."""
    series = dict(times.series)
    schedules = {
        label: series.pop(name) for name, label in _SCHEDULES.items() if name in series
    }
    drawn = [chart("Schedules", schedules, times.starts, (0.0, 1.0))]
    for name in dict.fromkeys(name.removeprefix("val_") for name in series):
        both = {f: series[f] for f in (name, f"val_{name}") if f in series}
        drawn.append(chart(name, both, times.starts))
    return tuple(one for one in drawn if one)


@dataclass(frozen=True)
class Strip:
    """How much of a group was kept when.

    Attributes:
        group: its name.
        units: number of filters (or units of filters that go together).
        kept: how many are left at the end.
        returned: how many were masked and came back at least once.
        area: SVG path data of the share that was kept, in units of one time and of all.
        last: the time from which the masks stayed as they are at the end.
    """

    group: str
    units: int
    kept: int
    returned: int
    area: str
    last: int


@dataclass(frozen=True)
class Masks:
    """What happened to the masks over time.

    Attributes:
        strips: one per group, in graph order.
        times: number of masks, so the width of a strip.
        images: filter by filter, of the groups in which some came back, as far as they
            fit the page. Where none did, an image would show no more than the strip.
        left_out: names of the groups whose images do not fit.
        units: units in all groups.
        returned: how many of them were masked and came back at least once.
    """

    strips: tuple[Strip, ...]
    times: int
    images: tuple[MaskImage, ...]
    left_out: tuple[str, ...]
    units: int
    returned: int


def masks(times: Timeline) -> Masks | None:
    """Strips of all groups, and images of those in which filters came back."""
    if not times.masks:
        return None
    strips = [_strip(group, mask) for group, mask in times.masks.items()]
    restless = sorted((s for s in strips if s.returned), key=lambda s: -s.returned)
    images = {s.group: mask_image(s.group, times.masks[s.group]) for s in restless}
    room, fitting = IMAGE_CHARACTERS, set()
    for group, image in images.items():
        if image.length <= room:
            room -= image.length
            fitting.add(group)
    shown = [s.group for s in strips if s.group in images]
    return Masks(
        strips=tuple(strips),
        times=next(iter(times.masks.values())).shape[1],
        images=tuple(images[group] for group in shown if group in fitting),
        left_out=tuple(group for group in shown if group not in fitting),
        units=sum(strip.units for strip in strips),
        returned=sum(strip.returned for strip in strips),
    )


def _strip(group: str, masks: np.ndarray) -> Strip:
    shares = masks.mean(axis=0)
    steps = "".join(f"V{1 - share:.3g}h1" for share in shares)
    changes = np.flatnonzero((masks != masks[:, -1:]).any(axis=0))
    return Strip(
        group=group,
        units=len(masks),
        kept=int(masks[:, -1].sum()),
        returned=int((times_returned(masks) > 0).sum()),
        area=f"M0 1{steps}V1z",
        last=int(changes[-1]) + 1 if changes.size else 0,
    )


@dataclass(frozen=True)
class HeatMap:
    """How much worse a metric gets with one group pruned.

    Attributes:
        metric: its name.
        baseline: its value with nothing pruned, as text.
        rates: heads of the columns.
        rows: a group, and per rate the value as text and a shade in percent.
    """

    metric: str
    baseline: str
    rates: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]


def heat_map(sensitivity: Sensitivity | None) -> HeatMap | None:
    """Values and shades; the darkest is the largest drop."""
    if sensitivity is None:
        return None
    shades = np.round(100 * sensitivity.shades).astype(int)
    return HeatMap(
        metric=sensitivity.metric,
        baseline=f"{sensitivity.baseline:.4g}",
        rates=tuple(f"{rate:.0%}" for rate in sensitivity.rates),
        rows=tuple(
            (group, tuple((f"{v:.4g}", s) for v, s in zip(row, shade, strict=True)))
            for group, row, shade in zip(
                sensitivity.groups,
                sensitivity.values.tolist(),
                shades.tolist(),
                strict=True,
            )
        ),
    )


@dataclass(frozen=True)
class File:
    """One artifact of an export.

    Attributes:
        name: of the network, as the caller gave it; may be empty.
        artifact: the file and its figures.
        verified: on which samples.
        width: of the bar of its size, in percent.
    """

    name: str
    artifact: Artifact
    verified: str
    width: float


def files(exports: Iterable[tuple[str, ExportReport]]) -> tuple[File, ...]:
    """The artifacts of all reports, in their order."""
    rows = [
        (name, artifact, f"{one.samples} {one.source}")
        for name, one in exports
        for artifact in one.artifacts
    ]
    largest = max((artifact.bytes for _, artifact, _ in rows), default=0) or 1
    return tuple(
        File(name, artifact, verified, round(100 * artifact.bytes / largest, 2))
        for name, artifact, verified in rows
    )


def code(times: Timeline) -> str | None:
    """The calls of `wrap` and `fit` that made a model, as Python."""
    if times.model is None:
        return None
    settings = times.model.pruning_settings
    arguments = {"rate": settings.rate, "method": _method(settings.config)}
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name, parameter in inspect.signature(wrap).parameters.items():
        value = getattr(settings, name, parameter.default)
        if name == "criterion" and value == criteria.resolve(parameter.default):
            continue
        if value not in (parameter.default, defaults.get(name)):
            arguments.setdefault(name, value)
    lines = [f"    {name}={_python(value)}," for name, value in arguments.items()]
    if settings.distillation_weight:
        lines.append(
            "    distillation=pgmpf_tf.Distillation(teacher, "
            f"{settings.distillation_weight}, {settings.temperature}),"
        )
    fits = (
        f"model.fit(data, {', '.join(f'{k}={v}' for k, v in fit.items())})"
        for fit in times.fits
    )
    return "\n".join(["model = pgmpf_tf.wrap(", "    model,", *lines, ")", *fits])


def _method(config: PruningConfig) -> str | PruningConfig:
    """The name of a configuration that has one."""
    names = (name for name in PRESETS if PruningConfig.preset(name) == config)
    return next(names, config)


def _criterion(criterion: Criterion) -> str:
    """A criterion in the words of a user who has `data` at hand."""
    text = repr(criterion)
    if criterion.needs_data:
        name, _, options = text.partition("(")
        text = f"{name}(data=data{'' if options == ')' else ', '}{options}"
    built_in = type(criterion).__module__ == criteria.__name__
    return f"pgmpf_tf.criteria.{text}" if built_in else text


def _python(value: Any) -> str:
    if hasattr(value, "drop"):
        return "sensitivity"  # a measurement, which is no text
    if isinstance(value, Criterion):
        return _criterion(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Fields that have the default need not be said.
        changes = [
            f"{field.name}={_python(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != _default(field)
        ]
        return f"pgmpf_tf.{type(value).__name__}({', '.join(changes)})"
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return repr(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def optimizer(model: PrunedModel | None) -> str | None:
    """The configuration of the optimizer that a model is compiled with, as JSON."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    return json.dumps(
        keras.optimizers.serialize(optimizer), indent=1, default=str, sort_keys=True
    )


def versions() -> tuple[tuple[str, str], ...]:
    """Of what made the page."""
    backend = keras.backend.backend()
    packages = [(name, _version(name)) for name in ("pgmpf_tf", "keras", backend)]
    return (
        *packages,
        ("Keras backend", backend),
        ("Python", platform.python_version()),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
