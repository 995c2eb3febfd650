"""`export`: write, load again, compare, time, and only then put in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pgmpf_tf._checks import check_bool, check_type, received
from pgmpf_tf._files import staged
from pgmpf_tf.exporting import samples, verification
from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.options import CALIBRATED, Options
from pgmpf_tf.exporting.results import (
    Artifact,
    ExportReport,
    LayerError,
    OutputError,
    VerificationError,
)
from pgmpf_tf.exporting.signature import Arrays, Signature, is_legacy
from pgmpf_tf.exporting.timing import median_milliseconds
from pgmpf_tf.exporting.writing import write
from pgmpf_tf.folding.batch_norm import fold_batch_norm
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.shrinking import compact

GIVEN_SAMPLES = 256
RANDOM_SAMPLES = 12


def export(
    model: keras.Model,
    directory: str | os.PathLike[str],
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

    Every artifact is loaded again, by the software that will run it, and compared with
    the model before any of them gets its name in `directory`: `saved_model/`,
    `model.tflite` (`model_float16.tflite` and so on when quantized), `model.keras`,
    `model.onnx`, `openvino/`, `model.pt2`. If one fails, none is left. What has one of
    these names already is replaced.

    All but the `.keras` file are written on Keras' TensorFlow backend. On JAX and
    PyTorch a process of their own does that, if TensorFlow is installed.

    ```python
    exports = pgmpf_tf.export(
        small, "artifacts/", quantize="int8", representative_data=images
    )
    rich.print(exports)
    ```

    Args:
        model: a wrapped model (which is compacted first), any built Keras model, or a
            quantization-aware one from `quantize_aware`.
        directory: where to write; made if it is missing.
        formats: any of `"saved_model"`, `"tflite"`, `"keras"`, `"onnx"`, `"openvino"`
            (these two need `pip install 'pgmpf_tf[onnx,openvino]'`) and `"torch"` (on
            Keras' PyTorch backend).
            The names of inputs and outputs are the model's (an input's is that of its
            layer; what an identifier cannot have becomes `_`); SavedModels and
            `.tflite` files have one signature, `"serving_default"`.
        quantize: precision of the `.tflite` file, whose BatchNormalization layers are
            folded first (see `fold_batch_norm`): None for float32, `"float16"`
            (weights), `"dynamic"` (int8 weights, activations as they come), `"int8"`
            (all integer) or `"int16x8"` (int8 weights, int16 activations: nearly
            exact, and slow on most processors). The last two need
            `representative_data`, except that a quantization-aware model has its own
            ranges for int8.
        representative_data: samples that set the ranges of integers, the first 256 of
            them: an array; a dictionary of arrays by input name; a list with an array
            per input; a `tf.data.Dataset`, an iterable, or a function that returns
            one, of batches of those. A tuple is `(inputs, targets, ...)`, as in `fit`.
        verification_data: samples to compare on, the first 256. By default the
            representative ones; of those that set ranges, every third is kept aside for
            this. Without either, 12 random ones.
        batch_size: fixes the batch size of all but the `.keras` file; by default it
            stays as in the model, which mostly lets it vary.
        integer_io: for int8 and int16x8, take and return integers rather than float32.
        tolerance: largest deviation from the model, relative to its largest output; by
            default 1e-4 for float32, 1e-2 for float16, and no bound for the others.
        min_agreement: least fraction of samples with the same top-1 class, for outputs
            of more than one channel; by default 0.9 for `"dynamic"`, `"int8"` and
            `"int16x8"` on given (not random) samples. On those, the root mean square
            error of outputs without classes (all, if this is 0) may be a quarter of the
            output's standard deviation, unless `tolerance` is given.
        verbose: show progress on a terminal.

    Returns:
        Path, bytes, errors and latency of every artifact.

    Raises:
        TypeError: an argument is of no usable type.
        ValueError: an argument that is not allowed, data that do not fit the model, a
            directory that cannot be written, or an operation that a format lacks.
        ImportError: a format needs a package that is not installed.
        RuntimeError: the process on TensorFlow that was to write a file has died.
        VerificationError: an artifact deviates by more than is allowed.
    """
    check_type("directory", directory, (str, os.PathLike), "a path")
    options = Options.of(
        formats, quantize, batch_size, integer_io, tolerance, min_agreement
    )
    verbose = check_bool("verbose", verbose)
    if isinstance(model, PrunedModel):
        model = compact(model)
    signature = Signature.of(model, options.batch_size)
    options.check_model(signature)
    data = _Data.of(options, signature, representative_data, verification_data)
    with staged(directory) as folder, _progress(verbose) as say:
        say("running the model")
        reference = samples.run_in_batches(signature.run, data.inputs, signature)
        artifacts = [
            _artifact(format, options, signature, data, reference, folder, say)
            for format in options.formats
        ]
    target = Path(directory)
    placed = (replace(each, path=target / each.path.name) for each in artifacts)
    return ExportReport(tuple(placed), samples.size(data.inputs), data.source)


@dataclass(frozen=True)
class _Data:
    """Samples.

    Attributes:
        calibration: those that set ranges, if such are wanted.
        inputs: those to verify on.
        source: as in `ExportReport`.
    """

    calibration: Arrays | None
    inputs: Arrays
    source: str

    @classmethod
    def of(
        cls, options: Options, signature: Signature, representative: Any, given: Any
    ) -> _Data:
        """Chooses what verifies: given samples, held-out ones, or random ones."""
        calibrates = options.needs_calibration(signature.model)
        if calibrates and representative is None:
            raise ValueError(
                f"`representative_data` must be given for quantize={options.quantize!r}"
                ": they set the ranges of the activations. "
                f"{received('representative_data', None)}"
            )
        if representative is not None:
            # A third is held out where samples calibrate and nothing else verifies.
            splits = calibrates and given is None
            limit = GIVEN_SAMPLES * 3 // 2 if splits else GIVEN_SAMPLES
            representative = samples.collect(
                "representative_data", representative, signature.inputs, limit
            )
            if splits and samples.size(representative) >= 3:
                return cls(*samples.hold_out(representative, 3), "held-out")
        if given is not None:
            given = samples.collect(
                "verification_data", given, signature.inputs, GIVEN_SAMPLES
            )
            return cls(representative, given, "given")
        if representative is not None:
            source = "calibration" if calibrates else "given"
            return cls(representative, representative, source)
        return cls(None, samples.draw(signature.inputs, RANDOM_SAMPLES), "random")


def _artifact(
    format: Format,
    options: Options,
    signature: Signature,
    data: _Data,
    reference: Arrays,
    folder: Path,
    say: Callable[[str], None],
) -> Artifact:
    """Writes, verifies and times the artifact of one format."""
    name = options.precision(format)
    path = folder / format.file_name(name)
    say(f"writing {path.name}")
    precision = Precision(name, data.calibration, options.integer_io)
    quantized = name != "float32" and not is_legacy(signature.model)
    written = _folded(signature) if quantized else signature
    write(format, written, path, precision)
    say(f"verifying {path.name}")
    errors = _verify(format, path, signature, data.inputs, reference)
    bounds = options.bounds(format, data.source != "random")
    verification.check(path.name, errors, bounds)
    latency = None
    if format.deployed:
        say(f"timing {path.name}")
        batch = samples.fill(data.inputs, signature.batch_size or 1)
        latency = median_milliseconds(format.inference(path, batch))
    layers: tuple[LayerError, ...] = ()
    if quantized and name in CALIBRATED:
        say(f"finding out where {path.name} loses")
        layers = format.layer_errors(written, path, data.inputs)
    return Artifact(
        format=format.name,
        precision=name,
        path=path,
        bytes=_bytes(path),
        outputs=errors,
        latency_ms=latency,
        layers=layers,
    )


def _folded(signature: Signature) -> Signature:
    """The same signature of the model without the normalizations that can go."""
    return replace(signature, model=fold_batch_norm(signature.model))


def _verify(
    format: Format, path: Path, signature: Signature, inputs: Arrays, reference: Arrays
) -> tuple[OutputError, ...]:
    """Loads an artifact and measures how far it is from the model.

    Raises:
        VerificationError: it cannot be loaded or run, or its outputs are others.
    """
    try:
        runner = format.load(path)
        outputs = samples.run_in_batches(runner, inputs, signature)
    except Exception as error:  # whatever the loader of the format raises
        raise VerificationError(
            f"{path.name} was written but cannot be run, and was not kept: {error}"
        ) from error
    return verification.measure(outputs, reference)


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
