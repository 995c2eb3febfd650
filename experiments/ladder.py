"""Accuracy, size and latency of one trained network, from dense float32 to small int8.

    python -m experiments.ladder --run_dir=runs/fashion --output=experiments/results

Takes the dense and the compacted network of a finished run of experiments.train,
exports each rung, and tests the files that were written on all test images. The last
rung trains for some epochs as if it were int8 already (tfmot).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import rich
from absl import app, flags
from rich.table import Table

import pgmpf_tf
from experiments import datasets, evaluation
from experiments.settings import Settings

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of a finished run.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory for ladder.json; or none.")
_EPOCHS = flags.DEFINE_integer(
    "qat_epochs", 2, "Epochs of quantization-aware training.", lower_bound=1
)
_RATE = flags.DEFINE_float(
    "qat_learning_rate", 1e-3, "Its learning rate, for SGD with momentum 0.9."
)

QAT = "int8 after quantization-aware training"


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


def climb(run: Path, qat_epochs: int, learning_rate: float) -> Iterator[Rung]:
    """Yields the rungs as they are measured.

    Args:
        run: folder of a finished run; the files are written to `ladder` in it.
        qat_epochs: epochs of quantization-aware training.
        learning_rate: of that training.

    Raises:
        ValueError: the folder holds no finished run with a compacted network.
    """
    settings = run / "settings.json"
    stages = {"dense": run / "dense.keras", "small": run / "compacted.keras"}
    missing = [str(p) for p in (settings, *stages.values()) if not p.is_file()]
    if missing:
        raise ValueError(
            "`run_dir` must be the folder of a finished run of experiments.train. "
            f"Received: run_dir={str(run)!r}, without {', '.join(missing)}"
        )
    settings = Settings.from_json(json.loads(settings.read_text("utf-8")))
    data = datasets.load(
        settings.dataset,
        data_dir=settings.data_dir,
        tfds_dir=settings.tfds_dir,
        train_examples=settings.train_examples,
        input_size=settings.input_size,
    )
    network = {
        name: keras.saving.load_model(path, compile=False)
        for name, path in stages.items()
    }
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
        return Rung(name, precision, accuracy, file.bytes, file.latency_ms)

    yield rung("dense", network["dense"], "float32")
    for precision in ("float32", "float16", "dynamic", "int8"):
        yield rung("small", network["small"], precision)
    aware = quantize_aware(network["small"], data, settings, qat_epochs, learning_rate)
    yield rung("small", aware, QAT)


def quantize_aware(
    model: keras.Model,
    data: datasets.Data,
    settings: Settings,
    epochs: int,
    learning_rate: float,
) -> Any:
    """The small network after training as if it were int8; a `tf_keras` model."""
    aware = pgmpf_tf.quantize_aware(model)
    import tf_keras  # an extra, which `quantize_aware` has asked for by name

    aware.compile(
        tf_keras.optimizers.SGD(learning_rate, momentum=0.9),
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


def main(_: list[str]) -> None:
    """Measures the ladder and prints it."""
    if not _RUN_DIR.value:
        raise app.UsageError("--run_dir is missing: the folder of a finished run.")
    table = Table(title=f"{_RUN_DIR.value}: TFLite files, tested on all test images")
    for heading in ("network", "precision", "accuracy", "bytes", "latency"):
        table.add_column(heading)
    rungs = []
    for rung in climb(Path(_RUN_DIR.value), _EPOCHS.value, _RATE.value):
        rungs.append(asdict(rung))
        cells = f"{rung.accuracy:.2%}", f"{rung.bytes:,}", f"{rung.latency_ms:.3g} ms"
        table.add_row(rung.network, rung.precision, *cells)
        rich.print(" ".join((rung.network, rung.precision, *cells)))
    rich.print(table)
    if _OUTPUT.value:
        folder = Path(_OUTPUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"environment": evaluation.environment(), "rungs": rungs}
        (folder / "ladder.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
