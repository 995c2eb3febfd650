"""The outside rival: tfmot's unstructured pruning, with as many parameters left.

    python -m experiments.studies.unstructured --run_dir=runs/fashion

Takes the dense network of a finished run of experiments.train, sets single weights to
zero (tfmot, lowest magnitudes, --epochs or as many as the run pruned for) until as many
parameters are left as its small network has, and prints both beside the dense one. With
several starts, each given by --learning_rate, it takes the network that is the best one
on images held out. Writes unstructured.json into the run's folder.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
import tensorflow as tf
from absl import flags
from rich.table import Table

import pgmpf_tf
from experiments.data import datasets
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.run.settings import RunSettings
from pgmpf_tf._files import write_text

# tfmot's schedule reaches its sparsity after this fraction of the steps.
_REACHED = 0.75


def prune(
    dense: keras.Model, data: datasets.Data, settings: RunSettings, parameters: int
) -> tuple[Any, list[float]]:
    """Fine-tunes a network while tfmot sets single weights to zero.

    Args:
        dense: the trained network.
        data: what to train on.
        settings: of the run whose epochs, batches and learning rate are used.
        parameters: how many entries of all weights are left in the end.

    Returns:
        A `tf_keras` model as wide as `dense`, and its accuracy on the images that
        training is watched with, after every epoch.

    Raises:
        ImportError: tfmot is not installed.
        ValueError: tfmot has no counterpart of a layer, or fewer parameters are asked
            for than the network has outside of kernels.
    """
    legacy = pgmpf_tf.to_tf_keras(dense)
    import tensorflow_model_optimization as tfmot  # an extra; it says so above
    import tf_keras

    steps = data.steps(settings.batch_size)
    model = _masked(legacy, parameters, steps, settings.epochs)
    if settings.weight_decay:
        # The penalty of every weight that the run itself was trained with.
        model.add_loss(
            lambda: (
                settings.weight_decay
                * tf.add_n(
                    [tf.nn.l2_loss(weight) for weight in model.trainable_weights]
                )
            )
        )
    decay = tf_keras.optimizers.schedules.CosineDecay(
        settings.prune_learning_rate, steps * settings.epochs
    )
    model.compile(
        tf_keras.optimizers.SGD(decay, momentum=settings.momentum, nesterov=True),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        data.train_batches(
            settings.batch_size, seed=settings.seed, epochs=settings.epochs
        ),
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=data.validation_batches(settings.batch_size),
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        verbose=2,
    )
    curve = [round(accuracy, 6) for accuracy in history.history["val_accuracy"]]
    return tfmot.sparsity.keras.strip_pruning(model), curve


def _masked(legacy: Any, parameters: int, steps: int, epochs: int) -> Any:
    """The network with tfmot's masks, which reach so many parameters in time."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    kernels = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
    prunable = sum(
        int(np.prod(layer.kernel.shape))
        for layer in legacy.layers
        if isinstance(layer, kernels)
    )
    others = legacy.count_params() - prunable
    if not others < parameters <= others + prunable:
        raise ValueError(
            f"`parameters` must be in {others + 1}..{others + prunable}. Received: "
            f"parameters={parameters}"
        )
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=1 - (parameters - others) / prunable,
        begin_step=0,
        end_step=int(_REACHED * steps * epochs),
        frequency=max(1, steps // 10),
    )

    def masked(layer: Any) -> Any:
        if isinstance(layer, kernels):
            return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)
        return layer

    return tf_keras.models.clone_model(legacy, clone_function=masked)


def compare(
    run: Path, learning_rates: Sequence[float] = (), epochs: int | None = None
) -> dict[str, dict[str, Any]]:
    """Dense, unstructured and small: parameters left, files, latency, accuracy.

    Args:
        run: folder of a finished run; the files go to `unstructured` in it.
        learning_rates: from which tfmot starts, one after the other; the run's own if
            there are none.
        epochs: of each of these trainings; the run's own if None.

    Returns:
        A row per network. That of tfmot's tells which start was the best one on images
        held out, and its accuracy on them after every epoch.

    Raises:
        ValueError: the folder holds no finished run with a compacted network, or its
            test images would have to choose between the learning rates.
    """
    settings, data, networks = evaluation.finished_run(run)
    if len(learning_rates) > 1 and settings.held_out == 0:
        raise ValueError(
            "Several `learning_rates` need a run with images held out, which choose "
            f"between them. Received: learning_rates={list(learning_rates)}"
        )
    trainings = [
        dataclasses.replace(
            settings, prune_learning_rate=start, epochs=epochs or settings.epochs
        )
        for start in learning_rates or (settings.prune_learning_rate,)
    ]
    parameters = networks["small"].count_params()
    tried = [
        (*prune(networks["dense"], data, own, parameters), own) for own in trainings
    ]
    networks["unstructured"], curve, own = max(tried, key=lambda found: found[1][-1])
    images, labels = evaluation.test_set(data, settings.batch_size)
    rows: dict[str, dict[str, Any]] = {}
    for name in ("dense", "unstructured", "small"):
        model = networks[name]
        report = pgmpf_tf.export(
            model, run / "unstructured" / name, "tflite", verification_data=images
        )
        file = report["tflite"]
        outputs = evaluation.tflite_outputs(file.path, images, settings.batch_size)
        left = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
        rows[name] = {
            "accuracy": evaluation.accuracy(outputs, labels),
            "parameters": left,
            "bytes": file.bytes,
            "gzip_bytes": len(gzip.compress(file.path.read_bytes())),
            "latency_ms": file.latency_ms,
        }
    rows["unstructured"] |= {
        "prune_learning_rate": own.prune_learning_rate,
        "epochs": own.epochs,
        "curve": curve,
    }
    return rows


def define_flags() -> None:
    """The run to take, and how to prune its dense network."""
    flags.DEFINE_string("run_dir", None, "Folder of a finished run.", required=True)
    flags.DEFINE_multi_float(
        "learning_rate",
        None,
        "Where tfmot starts, several times for several; by default as the run did.",
    )
    flags.DEFINE_integer("epochs", None, "By default as many as the run's.", 1)


def main(_: list[str]) -> None:
    """Prunes, measures and prints."""
    run = Path(flags.FLAGS.run_dir)
    rows = compare(run, flags.FLAGS.learning_rate or (), flags.FLAGS.epochs)
    write_text(run / "unstructured.json", json.dumps(rows, indent=2) + "\n")
    table = Table(title=f"{run}: TFLite files, tested on all test images")
    table.add_column("network")
    for heading in ("accuracy", "parameters not 0", "bytes", "gzip", "latency"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        counts = (f"{row[key]:,}" for key in ("parameters", "bytes", "gzip_bytes"))
        table.add_row(
            name, f"{row['accuracy']:.2%}", *counts, f"{row['latency_ms']:.3f} ms"
        )
    rich.print(table)


if __name__ == "__main__":
    launch(main, define_flags)
