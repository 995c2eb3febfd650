"""The whole way of one run: train, prune, compact, export, measure."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
import tensorflow as tf

import pgmpf_tf
from experiments.data.datasets import Data
from experiments.networks import models
from experiments.networks.precision import FILE_PRECISION, in_precision
from experiments.run import evaluation, presentation, stages, strategies
from experiments.run.directory import RunDirectory
from experiments.run.records import cost
from experiments.run.settings import SENSITIVITY, RunSettings
from experiments.studies import quantization
from pgmpf_tf.exporting import ExportReport

_MEASURED_ON = 1_000
"""Training images that tell a sensitivity."""


def run(
    settings: RunSettings,
    output_dir: str | Path,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Does what the settings say, or what is left of it.

    Args:
        settings: what to do.
        output_dir: the run's folder, see `RunDirectory`.
        strategy: where to train, see `strategies.strategy`.

    Returns:
        The content of `result.json`; empty on workers other than the chief.

    Raises:
        ValueError: if settings do not fit the model, the data or the folder.
        FileNotFoundError: if files of the data set or the baseline are missing.
        FolderInUse: if another process is at work in the folder.
    """
    _check_backend(settings)
    keras.utils.set_random_seed(settings.seed)
    if settings.baseline is not None and not Path(settings.baseline).is_file():
        raise FileNotFoundError(
            f"`baseline` must be a .keras file. Received: {settings.baseline!r}"
        )
    data = evaluation.load_data(settings)
    if settings.method != "baseline":
        # What cannot be pruned as asked for is refused before any training.
        _wrap(_build(data, settings), settings)
        keras.utils.set_random_seed(settings.seed)
    writable = strategies.is_chief(strategy)
    directory = RunDirectory(output_dir, settings, writable=writable)
    if directory.result is not None:
        return directory.result
    with directory.opened():
        _train_dense(data, directory, strategy)
        strategies.wait_for_all(strategy)
        if settings.method != "baseline":
            _train_pruned(data, directory, strategy)
        if not writable:
            return {}
        rich.print("[bold]Exporting and measuring[/bold]")
        result = _measure(data, directory)
        directory.finish(result)
        return result


def _build(data: Data, settings: RunSettings) -> keras.Model:
    classes = settings.num_classes or data.num_classes
    if classes < data.num_classes:
        raise ValueError(
            f"`num_classes` must be at least {data.num_classes}, the classes of "
            f"{settings.dataset}. Received: num_classes={classes}"
        )
    model = models.build(
        settings.model, input_shape=data.input_shape, num_classes=classes
    )
    return _in_training_precision(model, settings)


def _in_training_precision(model: keras.Model, settings: RunSettings) -> keras.Model:
    if settings.precision == FILE_PRECISION:
        return model
    return in_precision(model, settings.precision)


def _check_backend(settings: RunSettings) -> None:
    """Raises ValueError for what Keras' backend in use cannot do."""
    needed = {
        "on_device": ("jax", settings.on_device),
        "strategy": ("tensorflow", settings.strategy != "none"),
    }
    for name, (backend, asked) in needed.items():
        if asked and keras.backend.backend() != backend:
            raise ValueError(
                f"`{name}` needs KERAS_BACKEND={backend}. Received: "
                f"{name}={getattr(settings, name)!r} with "
                f"KERAS_BACKEND={keras.backend.backend()}"
            )


def _wrap(
    model: keras.Model,
    settings: RunSettings,
    teacher: keras.Model | None = None,
    sensitivity: pgmpf_tf.Sensitivity | None = None,
) -> keras.Model:
    distillation = None
    if teacher is not None:
        distillation = pgmpf_tf.Distillation(teacher, settings.distillation)
    return pgmpf_tf.wrap(
        model,
        rate=settings.target(sensitivity),
        method=settings.pruning_config(),
        criterion=settings.criterion,
        coupling=settings.coupling,
        exclude=settings.exclude,
        epochs=settings.epochs,
        round_to=settings.round_to,
        distillation=distillation,
        seed=settings.seed,
    )


def _train_dense(
    data: Data, directory: RunDirectory, strategy: tf.distribute.Strategy | None
) -> None:
    settings = directory.settings
    if settings.baseline is not None:
        dense = keras.saving.load_model(settings.baseline, compile=False)
        directory.save_model(dense, directory.model_path("dense"))
    elif settings.dense_epochs:

        def make_model(_: keras.Model | None) -> keras.Model:
            model = _build(data, settings)
            if strategies.is_multi_worker(strategy):
                # Plain training, but Keras' own `fit` fails on several workers.
                model = pgmpf_tf.wrap(model, rate=0.0, method="sfp")
            return model

        stage = stages.Stage(
            "dense", settings.dense_epochs, settings.learning_rate, make_model
        )
        stages.train(stage, data, directory, strategy)


def _train_pruned(
    data: Data, directory: RunDirectory, strategy: tf.distribute.Strategy | None
) -> None:
    settings = directory.settings

    def dense() -> keras.Model:
        return _in_training_precision(
            keras.saving.load_model(directory.model_path("dense"), compile=False),
            settings,
        )

    def make_model(teacher: keras.Model | None) -> keras.Model:
        model = dense() if settings.warm_start else _build(data, settings)
        return _wrap(model, settings, teacher, _sensitivity(model, data, directory))

    warm, cold = settings.prune_learning_rate, settings.learning_rate
    stage = stages.Stage(
        "pruned",
        settings.epochs,
        warm if settings.warm_start else cold,
        make_model,
        make_teacher=dense if settings.distillation else None,
        until_final=settings.shrink,
    )
    stages.train(stage, data, directory, strategy)
    if settings.shrink:
        _train_small(stage, data, directory, strategy)


def _sensitivity(
    model: keras.Model, data: Data, directory: RunDirectory
) -> pgmpf_tf.Sensitivity | None:
    """How far outputs on training images move without filters of each group."""
    settings = directory.settings
    if settings.selection != SENSITIVITY:
        return None
    images, _ = data.arrays(data.train.take(_MEASURED_ON), settings.batch_size)
    started = time.perf_counter(), time.process_time()
    table = pgmpf_tf.sensitivity(
        model,
        images,
        criterion=settings.criterion,
        coupling=settings.coupling,
        exclude=settings.exclude,
    )
    passes = len(images) * (1 + table.values.size)
    spent: dict[str, float] = {
        "epochs": 0,
        "images": passes,
        "macs": passes * pgmpf_tf.profile(model).macs,
        "seconds": round(time.perf_counter() - started[0], 1),
        "processor_seconds": round(time.process_time() - started[1], 1),
        "load": round(os.getloadavg()[0], 2),
    }
    directory.write_cost(SENSITIVITY, spent)
    return table


def _train_small(
    before: stages.Stage,
    data: Data,
    directory: RunDirectory,
    strategy: tf.distribute.Strategy | None,
) -> None:
    """The rest of the epochs, on what is left of the network."""

    def make_model(_: keras.Model | None) -> keras.Model:
        pruned = keras.saving.load_model(directory.model_path("pruned"))
        return pgmpf_tf.compact(pruned, compile=True)

    stage = stages.Stage("compacted", before.epochs, before.learning_rate, make_model)
    stages.train(stage, data, directory, strategy)
    costs = cost(directory.metrics)
    seconds = [
        f"{costs[name]['seconds'] / costs[name]['epochs']:.1f}"
        for name in ("pruned", "compacted")
        if name in costs
    ]
    rich.print(f"Seconds per epoch before and after: {', '.join(seconds)}")


def _measure(data: Data, directory: RunDirectory) -> dict[str, Any]:
    """Evaluates the files of the run: what is measured is what was written.

    This is the only place that reads the test images, unless nothing is held out.
    """
    settings = directory.settings
    started = time.perf_counter()
    images, labels = evaluation.test_set(data, settings.batch_size)
    measuring = _Measuring(directory, images, labels)
    result: dict[str, Any] = {"settings": settings.to_json()}
    if settings.warm_start:
        result["dense"], _ = measuring.measure("dense")
    if settings.method != "baseline":
        result |= _measure_pruned(data, measuring)
    result["cost"] = cost(directory.metrics) | directory.costs
    result["measuring_seconds"] = round(time.perf_counter() - started, 1)
    result["environment"] = evaluation.environment()
    return result


def _measure_pruned(data: Data, measuring: _Measuring) -> dict[str, Any]:
    """The part of the result that is about the masked and the small network."""
    directory = measuring.directory
    settings = directory.settings
    pruned = keras.saving.load_model(directory.model_path("pruned"), compile=False)
    masked = pruned.predict(measuring.images, settings.batch_size, verbose=0)
    small = pgmpf_tf.compact(pruned)
    if settings.shrink:
        # The small network has learned since: what agrees is how it began.
        began = small.predict(measuring.images, settings.batch_size, verbose=0)
    else:
        directory.save_model(small, directory.model_path("compacted"))
    row, outputs = measuring.measure("compacted")
    began = began if settings.shrink else outputs["keras"]
    pairs = {"masked_compacted": (began, masked)}
    if "tflite" in outputs:
        pairs["compacted_tflite"] = (outputs["tflite"], outputs["keras"])
    result: dict[str, Any] = {
        "masked": {"accuracy": evaluation.accuracy(masked, measuring.labels)},
        "small": row,
        "agreement": _agreement(pairs),
    }
    exports = measuring.exports
    small = measuring.networks["compacted"]
    if settings.quantize != "none":
        quantized = _quantize(small, data, directory, measuring.images)
        exports = exports | {f"compacted, {settings.quantize}": quantized}
        result["quantized"] = _as_json(quantized)
        logits = evaluation.tflite_outputs(
            quantized["tflite"].path, measuring.images, settings.batch_size
        )
        accuracy = evaluation.accuracy(logits, measuring.labels)
        result["quantized_accuracy"] = accuracy
    presentation.write_page(directory, pruned, small, exports)
    return result


class _Measuring:
    """Measures the networks of a run on its test images.

    Attributes:
        networks: those that were measured, by the stage.
        exports: what was exported of them, likewise.
    """

    def __init__(
        self, directory: RunDirectory, images: np.ndarray, labels: np.ndarray
    ) -> None:
        self.directory = directory
        self.images, self.labels = images, labels
        self.networks: dict[str, keras.Model] = {}
        self.exports: dict[str, ExportReport] = {}

    def measure(self, stage: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Accuracy, cost and exports; and the outputs, by where they come from."""
        settings = self.directory.settings
        path = self.directory.model_path(stage)
        model = self.networks[stage] = keras.saving.load_model(path, compile=False)
        size = settings.batch_size
        outputs = {"keras": model.predict(self.images, size, verbose=0)}
        row: dict[str, Any] = {
            "accuracy": evaluation.accuracy(outputs["keras"], self.labels)
        } | evaluation.cost(model, path)
        if settings.formats:
            report = self.exports[stage] = pgmpf_tf.export(
                model,
                self.directory.path / "exports" / stage,
                settings.formats,
                verification_data=self.images,
            )
            row["exports"] = _as_json(report)
        if "tflite" in settings.formats:
            file = report["tflite"].path
            outputs["tflite"] = evaluation.tflite_outputs(file, self.images, size)
            row["tflite_accuracy"] = evaluation.accuracy(outputs["tflite"], self.labels)
        return row, outputs


def _agreement(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, float]:
    return {
        f"{name}_{measure.__name__}": measure(*pair)
        for name, pair in pairs.items()
        for measure in (evaluation.deviation, evaluation.same_classes)
    }


def _quantize(
    model: keras.Model, data: Data, directory: RunDirectory, images: np.ndarray
) -> ExportReport:
    settings = directory.settings
    if settings.qat_epochs:
        model = quantization.quantize_aware(model, data, settings, settings.qat_epochs)
    batches = data.train_batches(256, seed=settings.seed, epochs=1)
    return pgmpf_tf.export(
        model,
        directory.path / "exports" / "compacted",
        "tflite",
        quantize=settings.quantize,
        representative_data=batches.map(lambda image, label: image),
        verification_data=images,
    )


def _as_json(report: ExportReport) -> dict[str, Any]:
    return {
        artifact.format: {
            "precision": artifact.precision,
            "bytes": artifact.bytes,
            "max_deviation": artifact.max_deviation,
            "top1_agreement": artifact.top1_agreement,
            "latency_ms": artifact.latency_ms,
        }
        for artifact in report.artifacts
    }
