"""Rungs of precision of one trained network, and training as if it were int8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import pgmpf_tf
from experiments.data import datasets
from experiments.run import evaluation
from experiments.run.settings import RunSettings

QAT = "int8 after quantization-aware training"
LEARNING_RATE = 1e-3
"""Of quantization-aware training, for SGD with momentum 0.9."""


@dataclass(frozen=True)
class Rung:
    """One file of the ladder.

    Attributes:
        network: `"dense"` or `"small"`.
        precision: of the file.
        accuracy: on all test images.
        bytes: size of the file.
        latency_ms: median milliseconds for one image on one thread.
    """

    network: str
    precision: str
    accuracy: float
    bytes: int
    latency_ms: float


def climb(run: Path, qat_epochs: int) -> Iterator[Rung]:
    """Yields the rungs as they are measured.

    Args:
        run: folder of a finished run; the files are written to `ladder` in it.
        qat_epochs: epochs of quantization-aware training.

    Raises:
        ValueError: the folder holds no finished run with a compacted network.
    """
    settings, data, network = evaluation.finished_run(run)
    images, labels = evaluation.test_set(data, settings.batch_size)

    def rung(name: str, model: Any, precision: str) -> Rung:
        quantize = {"float32": None, QAT: "int8"}.get(precision, precision)
        batches = data.train_batches(256, seed=settings.seed, epochs=1)
        report = pgmpf_tf.export(
            model,
            run / "ladder" / f"{name} {precision}".replace(" ", "_"),
            "tflite",
            quantize=quantize,
            representative_data=batches,
            verification_data=images,
            min_agreement=0.0,
        )
        file = report["tflite"]
        outputs = evaluation.tflite_outputs(file.path, images, settings.batch_size)
        accuracy = evaluation.accuracy(outputs, labels)
        assert file.latency_ms is not None  # a .tflite file is always timed
        return Rung(name, precision, accuracy, file.bytes, file.latency_ms)

    yield rung("dense", network["dense"], "float32")
    for precision in ("float32", "float16", "dynamic", "int8"):
        yield rung("small", network["small"], precision)
    aware = quantize_aware(network["small"], data, settings, qat_epochs)
    yield rung("small", aware, QAT)


def quantize_aware(
    model: keras.Model,
    data: datasets.Data,
    settings: RunSettings,
    epochs: int,
) -> Any:
    """The small network after training as if it were int8; a `tf_keras` model."""
    aware = pgmpf_tf.quantize_aware(model)
    import tf_keras  # an extra, which `quantize_aware` has asked for by name

    aware.compile(
        tf_keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    aware.fit(
        # Other orders and crops than those of the run's own epochs.
        data.train_batches(settings.batch_size, seed=settings.seed + 1, epochs=epochs),
        epochs=epochs,
        steps_per_epoch=data.steps(settings.batch_size),
    )
    return aware
