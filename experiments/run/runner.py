"""The whole way of one run: train, prune, compact, export, measure."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
import tensorflow as tf

import pgmpf_tf
from experiments.data.datasets import Data
from experiments.networks import models
from experiments.run import evaluation, presentation, stages, strategies
from experiments.run.directory import RunDirectory
from experiments.run.settings import Settings
from experiments.studies import quantization
from pgmpf_tf.exporting import ExportReport


def run(
    settings: Settings,
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
    """
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


def _build(data: Data, settings: Settings) -> keras.Model:
    classes = settings.num_classes or data.num_classes
    if classes < data.num_classes:
        raise ValueError(
            f"`num_classes` must be at least {data.num_classes}, the classes of "
            f"{settings.dataset}. Received: num_classes={classes}"
        )
    return models.build(
        settings.model, input_shape=data.input_shape, num_classes=classes
    )


def _wrap(
    model: keras.Model, settings: Settings, teacher: keras.Model | None = None
) -> keras.Model:
    distillation = None
    if teacher is not None:
        distillation = pgmpf_tf.Distillation(teacher, settings.distillation)
    return pgmpf_tf.wrap(
        model,
        rate=settings.target(),
        method=settings.pruning_config(),
        criterion=settings.criterion,
        coupling=settings.coupling,
        exclude=settings.exclude,
        epochs=settings.epochs,
        round_to=settings.round_to,
        distillation=distillation,
        seed=settings.seed,
    )


def _train_dense(data, directory, strategy):
    settings = directory.settings
    if settings.baseline is not None:
        dense = keras.saving.load_model(settings.baseline, compile=False)
        directory.save_model(dense, directory.model_path("dense"))
    elif settings.dense_epochs:

        def make_model():
            model = _build(data, settings)
            if strategies.is_multi_worker(strategy):
                # Plain training, but Keras' own `fit` fails on several workers.
                model = pgmpf_tf.wrap(model, rate=0.0, method="sfp")
            return model

        stages.train(
            "dense",
            make_model,
            data,
            directory,
            epochs=settings.dense_epochs,
            learning_rate=settings.learning_rate,
            strategy=strategy,
        )


def _train_pruned(data, directory, strategy):
    settings = directory.settings

    def dense():
        return keras.saving.load_model(directory.model_path("dense"), compile=False)

    def make_model():
        if not settings.warm_start:
            return _wrap(_build(data, settings), settings)
        return _wrap(dense(), settings, dense() if settings.distillation else None)

    stages.train(
        "pruned",
        make_model,
        data,
        directory,
        epochs=settings.epochs,
        learning_rate=(
            settings.prune_learning_rate
            if settings.warm_start
            else settings.learning_rate
        ),
        strategy=strategy,
        make_teacher=dense if settings.distillation else None,
    )


def _measure(data, directory):
    """Evaluates the files of the run: what is measured is what was written."""
    settings = directory.settings
    started = time.perf_counter()
    images, labels = evaluation.test_set(data, settings.batch_size)
    result: dict[str, Any] = {"settings": settings.to_json()}
    exports: dict[str, ExportReport] = {}
    if settings.warm_start:
        dense = keras.saving.load_model(directory.model_path("dense"), compile=False)
        result["dense"], _ = _measure_model(
            dense, "dense", directory, images, labels, exports
        )
    if settings.method != "baseline":
        pruned = keras.saving.load_model(directory.model_path("pruned"), compile=False)
        masked = pruned.predict(images, settings.batch_size, verbose=0)
        path = directory.model_path("compacted")
        directory.save_model(pgmpf_tf.compact(pruned), path)
        small = keras.saving.load_model(path, compile=False)
        result["masked"] = {"accuracy": evaluation.accuracy(masked, labels)}
        result["small"], outputs = _measure_model(
            small, "compacted", directory, images, labels, exports
        )
        result["agreement"] = _agreement(masked, outputs)
        if settings.quantize != "none":
            quantized = _quantize(small, data, directory, images)
            exports[f"compacted, {settings.quantize}"] = quantized
            result["quantized"] = _as_json(quantized)
        presentation.write_page(directory, pruned, small, exports)
    seconds = sum(record["seconds"] for record in directory.metrics)
    result["training_seconds"] = round(seconds, 1)
    result["measuring_seconds"] = round(time.perf_counter() - started, 1)
    result["environment"] = evaluation.environment()
    return result


def _measure_model(model, stage, directory, images, labels, exports):
    """Accuracy, cost and exports of a model; its outputs by where they come from.

    What is exported goes into `exports` too, under the name of the stage.
    """
    settings = directory.settings
    outputs = {"keras": model.predict(images, settings.batch_size, verbose=0)}
    row: dict[str, Any] = {
        "accuracy": evaluation.accuracy(outputs["keras"], labels)
    } | evaluation.cost(model, directory.model_path(stage))
    if settings.formats:
        report = pgmpf_tf.export(
            model,
            directory.path / "exports" / stage,
            settings.formats,
            verification_data=images,
        )
        exports[stage] = report
        row["exports"] = _as_json(report)
    if "tflite" in settings.formats:
        path = report["tflite"].path
        outputs["tflite"] = evaluation.tflite_outputs(path, images, settings.batch_size)
        row["tflite_accuracy"] = evaluation.accuracy(outputs["tflite"], labels)
    return row, outputs


def _agreement(masked: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    pairs = {"masked_compacted": (outputs["keras"], masked)}
    if "tflite" in outputs:
        pairs["compacted_tflite"] = (outputs["tflite"], outputs["keras"])
    return {
        f"{name}_{measure.__name__}": measure(*pair)
        for name, pair in pairs.items()
        for measure in (evaluation.deviation, evaluation.same_classes)
    }


def _quantize(model, data, directory, images):
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


def _as_json(report) -> dict[str, Any]:
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
