"""`export`: write, load again, compare, time, and only then put in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pgmpf_tf._files import staged
from pgmpf_tf.compaction import compact
from pgmpf_tf.exporting import runners, samples, verification
from pgmpf_tf.exporting.interface import Arrays, Interface
from pgmpf_tf.exporting.report import Artifact, ExportReport, VerificationError
from pgmpf_tf.exporting.request import LOADERS, Request
from pgmpf_tf.training.model import PrunedModel

GIVEN_SAMPLES = 256
RANDOM_SAMPLES = 12


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    formats: str | Sequence[str] = ("saved_model", "tflite"),
    *,
    quantize: str | None = None,
    representative_data: Any = None,
    verification_data: Any = None,
    batch_size: int | None = None,
    integer_io: bool = False,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    verbose: bool = True,
) -> ExportReport:
    """Writes a model as files to deploy, and says how good each of them is.

    Every artifact is loaded again (a SavedModel by TensorFlow, a `.tflite` file by
    LiteRT) and compared with the model before any of them gets its name in
    `directory`: `saved_model/`, `model.tflite` (`model_float16.tflite` and so on when
    quantized), `model.keras`. If one fails, none is left. What has one of these names
    already is replaced.

    ```python
    report = pgmpf_tf.export(
        small, "artifacts/", quantize="int8", representative_data=images
    )
    rich.print(report)
    ```

    Args:
        model: a wrapped model (which is compacted first), any built Keras model, or a
            quantization-aware one from `quantize_aware`.
        directory: where to write; made if it is missing.
        formats: any of `"saved_model"`, `"tflite"` and `"keras"`. The first two have
            one signature, `"serving_default"`, with the names of the model's inputs
            and outputs (what an identifier cannot have becomes `_`).
        quantize: precision of the `.tflite` file: None for float32, `"float16"`
            (weights), `"dynamic"` (int8 weights, activations as they come) or `"int8"`
            (all integer; needs `representative_data`, except for a
            quantization-aware model).
        representative_data: samples that set the ranges for int8, the first 256 of
            them: an array; a dictionary of arrays by input name; a list with an array
            per input; a `tf.data.Dataset`, an iterable, or a function that returns
            one, of batches of those. A tuple is `(inputs, targets, ...)`, as in `fit`.
        verification_data: samples to compare on, the first 256; by default the
            representative ones, or else 12 random ones.
        batch_size: fixes the batch size of the SavedModel and the `.tflite` file; by
            default it stays as in the model, which mostly lets it vary.
        integer_io: for int8, take and return int8 rather than float32.
        tolerance: largest deviation from the model, relative to its largest output; by
            default 1e-4 for float32, 1e-2 for float16, and no bound for the others.
        min_agreement: least fraction of samples with the same top-1 class; by default
            0.9 for `"dynamic"` and `"int8"` on given (not random) samples.
        verbose: show progress on a terminal.

    Returns:
        Path, bytes, deviation, agreement and latency of every artifact.

    Raises:
        TypeError: `model` or the data are of no usable type.
        ValueError: an argument that is not allowed, data that do not fit the model, a
            directory that cannot be written, or an operation that TFLite lacks.
        VerificationError: an artifact deviates by more than is allowed.
    """
    chosen = (formats,) if isinstance(formats, str) else tuple(formats)
    request = Request(chosen, quantize, integer_io, tolerance, min_agreement)
    if isinstance(model, PrunedModel):
        model = compact(model)
    interface = Interface.of(model, batch_size)
    calibration = _collect("representative_data", representative_data, interface)
    given = _collect("verification_data", verification_data, interface) or calibration
    request.check_model(interface, calibration)
    inputs = given or samples.draw(interface.inputs, RANDOM_SAMPLES)
    with staged(directory) as folder, _progress(verbose) as say:
        say("running the model")
        reference = samples.run_in_batches(interface.run, inputs, interface)
        artifacts = []
        for format in dict.fromkeys(chosen):
            path = folder / request.name(format)
            say(f"writing {path.name}")
            request.write(format, interface, path, calibration)
            say(f"verifying {path.name}")
            deviation = _verify(format, path, interface, inputs, reference)
            bounds = request.bounds(format, given is not None)
            verification.check(path.name, deviation, *bounds)
            say(f"timing {path.name}")
            artifacts.append(
                Artifact(
                    format=format,
                    precision=request.precision(format),
                    path=Path(directory) / path.name,
                    bytes=_bytes(path),
                    max_deviation=deviation.largest,
                    mean_deviation=deviation.mean,
                    top1_agreement=deviation.agreement,
                    latency_ms=_latency(format, path, interface, inputs),
                )
            )
    return ExportReport(tuple(artifacts), samples.size(inputs), given is None)


def _collect(argument: str, data: Any, interface: Interface) -> Arrays | None:
    if data is None:
        return None
    return samples.collect(argument, data, interface.inputs, GIVEN_SAMPLES)


def _verify(
    format: str, path: Path, interface: Interface, inputs: Arrays, reference: Arrays
) -> verification.Deviation:
    """Loads an artifact and measures how far it is from the model.

    Raises:
        VerificationError: it cannot be loaded or run, or its outputs are others.
    """
    try:
        runner = LOADERS[format](path)
        outputs = samples.run_in_batches(runner, inputs, interface)
    except Exception as error:  # whatever the loader of the format raises
        raise VerificationError(
            f"{path.name} was written but cannot be run, and was not kept: {error}"
        ) from error
    return verification.measure(outputs, reference)


def _latency(
    format: str, path: Path, interface: Interface, inputs: Arrays
) -> float | None:
    batch = samples.fill(inputs, interface.batch_size or 1)
    if format == "tflite":
        return runners.median_milliseconds(runners.tflite_invoke(path, batch))
    if format == "saved_model":
        runner = runners.load_saved_model(path)
        return runners.median_milliseconds(lambda: runner(batch))
    return None


def _bytes(path: Path) -> int:
    files = [path, *path.rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def _progress(verbose: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows, on a terminal, what is being done and for how long."""
    columns = SpinnerColumn(), TextColumn("export: {task.description}")
    with Progress(
        *columns, TimeElapsedColumn(), transient=True, disable=not verbose
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda text: progress.reset(task, description=text)
