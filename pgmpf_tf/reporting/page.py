"""`report`: one HTML page about what pruning did to a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import keras
from rich import filesize

from pgmpf_tf._checks import check_path, check_type, received
from pgmpf_tf._files import staged
from pgmpf_tf.exporting.results import ExportReport
from pgmpf_tf.reporting import sections
from pgmpf_tf.reporting.cards import cards
from pgmpf_tf.reporting.comparison import compare
from pgmpf_tf.reporting.timeline import History, timeline
from pgmpf_tf.scores.sensitivity_table import Sensitivity

Exports = ExportReport | Mapping[str, ExportReport] | Sequence[ExportReport]


@dataclass(frozen=True)
class Report:
    """A page that stands for itself: no scripts, and nothing loaded from elsewhere.

    Attributes:
        html: the text of the page.
    """

    html: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page; the file is there whole, or as it was before.

        Args:
            path: the file, in a folder that exists.

        Returns:
            The path.

        Raises:
            ValueError: if the file cannot be written.
        """
        path = check_path("path", path)
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(
                "`path` must be a file that can be written, in a folder that exists. "
                f"{received('path', str(path))}"
            )
        with staged(path.parent) as folder:
            (folder / path.name).write_text(self.html, "utf-8")
        return path


def report(
    dense: keras.Model,
    small: keras.Model,
    *,
    history: History | Sequence[History] | None = None,
    exports: Exports | None = None,
    sensitivity: Sensitivity | None = None,
    data: Any = None,
    title: str | None = None,
) -> Report:
    """Puts on one page what pruning did to a model.

    The page needs no network, no scripts and nothing beside it. It shows the totals,
    how many filters each layer kept, and where multiply-accumulates and parameters
    went; from a history the schedules, the metrics and the masks over time; the
    exported files; the sensitivity of the groups; and the settings to do it again. What
    is not given is left out.

    Example:
        >>> history = model.fit(train, epochs=30, validation_data=val)
        >>> small = pgmpf_tf.compact(model)
        >>> exports = pgmpf_tf.export(small, "artifacts/")
        >>> page = pgmpf_tf.report(keras_model, small, history=history, exports=exports)
        >>> page.save("report.html")

    Args:
        dense: the model before pruning, or the wrapped one.
        small: what `compact` made of it.
        history: what `fit` of the wrapped model returned: its masks and settings are
            shown too. Or a dictionary from a name to a list with a number per epoch. Or
            a list of these, which are joined (plain training and pruning, say).
        exports: what `export` returned, once or in a list, or by a name to show.
        sensitivity: what `sensitivity` returned.
        data: samples on which the page says how far the small network's outputs are
            from the dense one's, the first 256, as `export` takes them.
        title: of the page; made from the model's name by default.

    Returns:
        The page, as text that `save` writes.

    Raises:
        TypeError: if an argument is of a wrong type.
        ValueError: if the models cannot be counted, or have no layer in common, or the
            histories are of different models, or the data do not fit.
        VerificationError: if data are given, and the models' outputs have other shapes.
    """
    check_type("dense", dense, keras.Model, "a Keras model")
    check_type("small", small, keras.Model, "a Keras model")
    measured = (Sensitivity, type(None))
    check_type("sensitivity", sensitivity, measured, "what `sensitivity` returned")
    check_type("title", title, (str, type(None)), "a string")
    times = timeline(history)
    named = _named(exports)
    comparison = compare(dense, small, data)
    layers = sections.layers(dense, small, comparison)
    masks = sections.masks(times)
    html = _template().render(
        title=title or f"{dense.name}: dense and small",
        totals=sections.totals(comparison, layers),
        cards=cards(comparison, times, named),
        layers=layers,
        charts=sections.charts(times),
        omitted=times.omitted,
        epochs=times.epochs,
        starts=times.starts,
        masks=masks,
        masks_from=times.masks_from,
        sensitivity=sections.heat_map(sensitivity),
        exports=sections.files(named),
        code=sections.code(times),
        optimizer=sections.optimizer(times.model),
        versions=sections.versions(),
    )
    return Report(html)


def _named(exports: Exports | None) -> list[tuple[str, ExportReport]]:
    """Reports with the names to show, which are empty if none are given."""
    named: list[tuple[str, Any]]
    if exports is None:
        named = []
    elif isinstance(exports, Mapping):
        named = [(str(name), one) for name, one in exports.items()]
    elif isinstance(exports, Sequence) and not isinstance(exports, str):
        named = [("", one) for one in exports]
    else:
        named = [("", exports)]
    for _, one in named:
        check_type("exports", one, ExportReport, "what `export` returned, or several")
    return named


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pgmpf_tf.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["change"] = _change
    environment.filters["size"] = filesize.decimal
    return environment.get_template("report.html.jinja")


def _change(fraction: float) -> str:
    """A relative change in percent, with the sign that typography knows."""
    return f"{fraction:+.1%}".replace("-", "\N{MINUS SIGN}")
