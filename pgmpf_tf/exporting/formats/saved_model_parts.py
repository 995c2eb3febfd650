"""Times small models with TensorFlow, in a process with as many threads as asked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.parts import Parts, beyond_calling
from pgmpf_tf.exporting.formats.saved_model import SavedModel
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.exporting.writing import REQUEST, run_elsewhere

SAVED_MODEL = "saved_model"
TIMES = "times.json"
"""The files by which the two processes speak, beside those of `run_elsewhere`."""


class SavedModelParts(Parts):
    """Models as TensorFlow would run them from a SavedModel; see `Parts`.

    TensorFlow settles its threads once in a process: models are timed in another one,
    where an operation may use as many as asked, and operations run one after another.
    On one thread the processor time of that process counts: what others do meanwhile
    does not. Calls are made from Python: a server has costs of its own.
    """

    def __init__(self, precision: str, threads: int) -> None:
        SavedModel().check_installed()
        self._threads = threads

    def times(
        self, whole: Sequence[keras.Model], inside: Sequence[keras.Model] = ()
    ) -> tuple[list[float], list[float]]:
        """The milliseconds that inferences take; see `Parts`."""
        found, empty = self._seconds([*whole, *inside])
        wholes, found = found[: len(whole)], found[len(whole) :]
        return [1e3 * seconds for seconds in wholes], [
            beyond_calling(seconds, empty[len(model.inputs)])
            for model, seconds in zip(inside, found, strict=True)
        ]

    def _seconds(
        self, models: Sequence[keras.Model]
    ) -> tuple[list[float], dict[int, float]]:
        """What calls of models take, and calls of nothing by the number of inputs."""
        counts = sorted({len(model.inputs) for model in models})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            endpoints = [*map(_endpoint, models), *map(_nothing, counts)]
            _write(endpoints, folder / SAVED_MODEL)
            request = {"threads": self._threads, "endpoints": len(endpoints)}
            (folder / REQUEST).write_text(json.dumps(request), "utf-8")
            try:
                run_elsewhere(f"{__package__}.saved_model_times", folder, "time models")
            except ValueError as error:
                raise ValueError(
                    "`model` must consist of operations that TensorFlow runs on the "
                    f"processor: {error}. "
                    f"{received('model', [model.name for model in models])}"
                ) from error
            times: list[float] = json.loads((folder / TIMES).read_text("utf-8"))
        empty = dict(zip(counts, times[len(models) :], strict=True))
        return times[: len(models)], empty


_Endpoint = tuple[Callable[..., Any], list[Any]]
"""A function, and the specifications of what it is called with."""


def _endpoint(model: keras.Model) -> _Endpoint:
    signature = Signature.of(model, batch_size=1)
    specs = [(port.shape, port.dtype, port.name) for port in signature.inputs]
    return lambda *x: signature.call(x), specs


def _nothing(inputs: int) -> _Endpoint:
    specs = [((1, 1), "float32", f"x{place}") for place in range(inputs)]
    return lambda *x: {"y": x[0]}, specs


def _write(endpoints: Sequence[_Endpoint], path: Path) -> None:
    """Writes one SavedModel with many endpoints, which are called by their numbers."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for number, (call, specs) in enumerate(endpoints):
        tensors = [tf.TensorSpec(*spec) for spec in specs]
        archive.add_endpoint(f"part{number}", call, input_signature=tensors)
    archive.write_out(path, verbose=False)
