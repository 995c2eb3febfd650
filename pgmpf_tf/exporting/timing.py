"""How long an inference takes; how long beside another network's, in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pgmpf_tf.exporting import samples
from pgmpf_tf.exporting.formats.base import Precision
from pgmpf_tf.exporting.formats.tflite import TFLite
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.exporting.writing import write

# Other work on the machine hits both networks alike if they take turns.
_ROUNDS = 15
_ROUND_SECONDS = 0.02


class Stopwatch:
    """Times networks against one network, with a line of progress for each.

    Args:
        model: what the others are compared with.
        limit: how many networks are to be timed.

    Attributes:
        left: how many of them are left.
    """

    def __init__(self, model: keras.Model, limit: int) -> None:
        self.left = limit
        self._model = model
        self._progress = Progress(
            TextColumn("latency search: {task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        self._task = self._progress.add_task("timing the network", total=limit)

    def __enter__(self) -> Stopwatch:
        """Writes and loads the model's file."""
        self._progress.start()
        try:
            self._invoke = _loaded(self._model)
        except BaseException:
            self._progress.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the line of progress."""
        self._progress.stop()

    def ratio(self, model: keras.Model, name: str) -> float:
        """The time of one inference (one thread, batch 1), as a part of the first's.

        Args:
            model: the network to time.
            name: what to call it.

        Returns:
            The median, over rounds, of the ratio of the two times in a round.

        Raises:
            ValueError: an operation of the model has no counterpart in TFLite.
        """
        invoke = _loaded(model)
        calls = max(1, round(_ROUND_SECONDS / _seconds(self._invoke, 3)))
        ratio = statistics.median(
            _seconds(invoke, calls) / _seconds(self._invoke, calls)
            for _ in range(_ROUNDS)
        )
        self.left -= 1
        self._progress.update(
            self._task, advance=1, description=f"{name}: {ratio:.0%} of the time"
        )
        return ratio


def median_milliseconds(call: Callable[[], object], seconds: float = 0.5) -> float:
    """The median wall time of a call, over about `seconds` and at least 10 calls."""
    for _ in range(3):
        call()
    times: list[float] = []
    while len(times) < 10 or (sum(times) < seconds and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _loaded(model: keras.Model) -> Callable[[], object]:
    signature, format = Signature.of(model), TFLite()
    arrays = samples.fill(samples.draw(signature.inputs, 1), signature.batch_size or 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / format.file
        write(format, signature, path, Precision())
        return format.inference(path, arrays)


def _seconds(call: Callable[[], object], count: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count
