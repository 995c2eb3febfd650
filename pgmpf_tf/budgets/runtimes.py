"""What can time a network, for budgets of latency.

Runtimes are not known here: `pgmpf_tf.exporting` registers TFLite's when it is
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

import keras

from pgmpf_tf._checks import received


class Stopwatch(Protocol):
    """Times networks beside one network; a context manager.

    Attributes:
        left: how many networks may be timed yet.
    """

    left: int

    def __enter__(self) -> Stopwatch:
        """Makes ready."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Frees what is held."""

    def ratio(self, model: keras.Model, name: str) -> float:
        """The time of one inference, as a part of the first network's.

        Args:
            model: the network to time.
            name: what to call it while it is timed.

        Raises:
            ValueError: if the runtime lacks an operation of the model.
        """


Runtime = Callable[[keras.Model, int], Stopwatch]
"""From the network that others are compared with, and how many these may be."""

_RUNTIMES: dict[str, Runtime] = {}


def register_runtime(name: str, runtime: Runtime) -> None:
    """Lets budgets time networks by a runtime.

    Args:
        name: the runtime's name; one that is known already is replaced.
        runtime: makes a stopwatch.
    """
    _RUNTIMES[name] = runtime


def stopwatch(name: str, model: keras.Model, limit: int) -> Stopwatch:
    """A stopwatch of a runtime.

    Args:
        name: the runtime's name.
        model: the network that others are compared with.
        limit: how many others may be timed.

    Raises:
        ValueError: if no runtime of that name is registered.
    """
    if name not in _RUNTIMES:
        known = ", ".join(map(repr, _RUNTIMES)) or "none"
        raise ValueError(
            "`latency` needs a runtime that times networks; TFLite's comes with "
            f"`import pgmpf_tf.exporting`. Known runtimes: {known}. "
            f"{received('runtime', name)}"
        )
    return _RUNTIMES[name](model, limit)
