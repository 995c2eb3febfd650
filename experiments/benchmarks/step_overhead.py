"""Measures what masking costs in a training step, and what an update of masks costs.

A plain Keras step and a wrapped one alternate in one process, on the same batch; each
pair gives one ratio of wall time, and one of processor time, which other programs on
the machine disturb less. The wrapped model is in the middle of the published schedules,
which ask the most of a step: dropout of the prior mask, suppression between 0 and 1,
BatchNorm's statistics shortly after a change. The operations of the traced steps are
counted as well: nodes of the graph on TensorFlow, equations of the program on JAX.

    python -m experiments.benchmarks.step_overhead --output=experiments/results
    KERAS_BACKEND=jax python -m experiments.benchmarks.step_overhead --optimizer=adam
"""

from __future__ import annotations

import abc
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import pgmpf_tf
from experiments.networks import models
from experiments.run.launching import launch
from pgmpf_tf._files import write_text

NETWORKS = {
    "resnet20": ("resnet20", 32, 128),
    "resnet20_16": ("resnet20", 16, 128),
    "mobilenetv2_cifar_16": ("mobilenetv2_cifar", 16, 128),
    "mobilenetv2": ("mobilenetv2", 96, 32),
    "resnet50": ("resnet50", 64, 16),
}
"""Network, size of the images, and images in a batch, by the name of the case."""

OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-4),
    "adamw": lambda: keras.optimizers.AdamW(1e-4, weight_decay=0.01),
}

EPOCHS, EPOCH = 100, 40

Batch = tuple[np.ndarray, np.ndarray]


def build(case: str, optimizer: str, wrapped: bool) -> keras.Model:
    """A compiled model, wrapped and in the middle of its schedules or plain."""
    network, size, _ = NETWORKS[case]
    keras.utils.set_random_seed(0)
    model = models.build(network, input_shape=(size, size, 3), num_classes=10)
    if wrapped:
        method = "pgmpf_published"
        model = pgmpf_tf.wrap(model, 0.5, method=method, epochs=EPOCHS, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss)
    if wrapped:
        for epoch in (-1, EPOCH):
            model.update_masks(epoch)
    return model


def batch(case: str) -> Batch:
    """Random images and labels."""
    _, size, count = NETWORKS[case]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, size, size, 3)).astype(np.float32)
    return images, rng.integers(0, 10, count)


class Steps(abc.ABC):
    """Runs the steps of a model on one batch, one by one, as `fit` does.

    Args:
        model: a compiled model.
        data: the batch.
    """

    @abc.abstractmethod
    def __init__(self, model: keras.Model, data: Batch) -> None: ...

    @abc.abstractmethod
    def _run(self) -> Any:
        """Starts a step, and gives its logs."""

    def timed(self) -> tuple[float, float]:
        """Runs a step: its wall and processor seconds."""
        wall, processor = time.perf_counter(), time.process_time()
        float(self._run()["loss"])  # waits for the end of the step
        return time.perf_counter() - wall, time.process_time() - processor

    @abc.abstractmethod
    def sync(self) -> None:
        """Lets the model's variables hold what the last step has left."""

    @abc.abstractmethod
    def operations(self) -> Counter[str]:
        """How many operations of each type the traced step has."""


class OnTensorFlow(Steps):
    """Steps that are a TensorFlow graph."""

    def __init__(self, model: keras.Model, data: Batch) -> None:
        import tensorflow as tf

        self._model = model
        self._data = tuple(map(tf.constant, data))
        self._batches = iter(tf.data.Dataset.from_tensors(self._data).cache().repeat())
        model.make_train_function()

    def _run(self) -> Any:
        return self._model.train_function(self._batches)

    def sync(self) -> None:
        """Nothing to do: a step changes the variables themselves."""

    def operations(self) -> Counter[str]:
        """How many operations of each type the traced step has."""
        import tensorflow as tf

        step = tf.function(self._model.train_step)
        graph = step.get_concrete_function(self._data).graph
        return Counter(operation.type for operation in graph.get_operations())


class OnJax(Steps):
    """Steps that are a program of JAX."""

    def __init__(self, model: keras.Model, data: Batch) -> None:
        import jax

        self._model, self._data = model, jax.device_put(data)
        model.train_on_batch(*data)
        self._state = model._get_jax_state(True, True, True, True)

    def _run(self) -> Any:
        logs, self._state = self._model.train_function(self._state, iter([self._data]))
        return logs

    def sync(self) -> None:
        """Puts the state of the last step into the variables."""
        model = self._model
        lists = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        for variables, values in zip(lists, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def operations(self) -> Counter[str]:
        """How many operations of each type the traced step has."""
        import jax

        program = jax.make_jaxpr(self._model.train_step)(self._state, self._data)
        return Counter(_primitives(program.jaxpr))


def _primitives(program: Any) -> Iterator[str]:
    """The names of all operations, of programs inside the program as well."""
    for equation in program.eqns:
        yield equation.primitive.name
        for parameter in keras.tree.flatten(list(equation.params.values())):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _primitives(inner)


_BACKENDS: dict[str, type[Steps]] = {"tensorflow": OnTensorFlow, "jax": OnJax}


def steps_of(model: keras.Model, data: Batch) -> Steps:
    """The steps of a model on Keras' backend in use."""
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise ValueError(
            f"KERAS_BACKEND must be one of {', '.join(_BACKENDS)}. Received: {backend}"
        )
    return _BACKENDS[backend](model, data)


def measure(case: str, optimizer: str, pairs: int, warmup: int) -> dict[str, object]:
    """Times and counts one case.

    Args:
        case: a key of `NETWORKS`.
        optimizer: a key of `OPTIMIZERS`.
        pairs: number of pairs of steps.
        warmup: steps of each model before that.

    Returns:
        Quartiles of the ratio and of the times in seconds, and counts.
    """
    data = batch(case)
    plain = build(case, optimizer, wrapped=False)
    model = build(case, optimizer, wrapped=True)
    runs = [steps_of(plain, data), steps_of(model, data)]
    for _ in range(warmup):
        for run in runs:
            run.timed()
    both = np.zeros((pairs, 2, 2))
    for pair in range(pairs):
        # Every other pair starts with the other model, so that a drift cancels.
        for which in (0, 1) if pair % 2 else (1, 0):
            both[pair, which] = runs[which].timed()
    times, processor = both[..., 0], both[..., 1]
    for run in runs:
        run.sync()
    updates = []
    for epoch in range(EPOCH, EPOCH + 3):
        start = time.perf_counter()
        model.update_masks(epoch)
        updates.append(time.perf_counter() - start)
    before, after = (run.operations() for run in runs)
    added = {
        kind: after[kind] - before[kind]
        for kind in after
        if after[kind] != before[kind]
    }
    return {
        "network": case,
        "optimizer": optimizer,
        "pairs": pairs,
        "ratio": quartiles(times[:, 1] / times[:, 0]),
        "processor_ratio": quartiles(processor[:, 1] / processor[:, 0]),
        "plain_seconds": quartiles(times[:, 0]),
        "wrapped_seconds": quartiles(times[:, 1]),
        "update_seconds": quartiles(np.array(updates)),
        "update_in_steps": float(np.median(updates) / np.median(times[:, 0])),
        "plain_operations": sum(before.values()),
        "added_operations": sum(added.values()),
        "added_by_type": added,
        "weight_bytes": _bytes(model.weights),
        "mask_bytes": _bytes(model.pruning_state.weights),
    }


def _bytes(variables: list[keras.Variable]) -> int:
    return sum(keras.ops.convert_to_numpy(variable).nbytes for variable in variables)


def quartiles(values: np.ndarray) -> list[float]:
    """First quartile, median and third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def show(results: list[dict[str, Any]]) -> None:
    """Prints the results as a table."""
    table = Table(title="A wrapped training step beside a plain one")
    for name in ("network", "plain step", "ratio", "processor", "update", "operations"):
        table.add_column(name)
    for result in results:
        table.add_row(
            f"{result['network']}, {result['optimizer']}",
            f"{1e3 * result['plain_seconds'][1]:.0f} ms",
            "{1:.3f}\n{0:.3f}-{2:.3f}".format(*result["ratio"]),
            "{1:.3f}\n{0:.3f}-{2:.3f}".format(*result["processor_ratio"]),
            f"{result['update_in_steps']:.2f} steps",
            f"{result['plain_operations']} + {result['added_operations']}",
        )
    Console().print(table)


def define_flags() -> None:
    """What to measure, and where to write."""
    cases = list(NETWORKS)
    flags.DEFINE_multi_enum("network", cases, cases, "Network to measure (repeatable).")
    flags.DEFINE_enum(
        "optimizer",
        "sgd",
        list(OPTIMIZERS),
        "sgd masks gradients, the others mask updates (`suppress` is auto).",
    )
    flags.DEFINE_integer("pairs", 30, "Pairs of steps to time.", lower_bound=1)
    flags.DEFINE_integer("warmup", 5, "Steps before that.", lower_bound=1)
    flags.DEFINE_string(
        "output",
        None,
        "Directory for step_overhead_<optimizer>.json, with the backend's name if that "
        "is not TensorFlow; none if not given.",
    )


def main(_: list[str]) -> None:
    """Measures all cases."""
    optimizer, backend = flags.FLAGS.optimizer, keras.backend.backend()
    results = []
    for case in dict.fromkeys(flags.FLAGS.network):
        pairs, warmup = flags.FLAGS.pairs, flags.FLAGS.warmup
        results.append(measure(case, optimizer, pairs, warmup))
        Console().print(f"{case}: done")
    show(results)
    if flags.FLAGS.output:
        record = {
            "processor": f"{platform.machine()}, {os.cpu_count()} cores",
            backend: importlib.metadata.version(backend),
            "keras": keras.__version__,
            "results": results,
        }
        case = optimizer if backend == "tensorflow" else f"{backend}_{optimizer}"
        path = pathlib.Path(flags.FLAGS.output) / f"step_overhead_{case}.json"
        write_text(path, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
