"""Where to train: the default device, several devices, or several machines."""

from __future__ import annotations

import contextlib

import tensorflow as tf

LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError)
"""What TensorFlow raises in a step when another worker is gone."""


def strategy(name: str) -> tf.distribute.Strategy | None:
    """The distribution strategy of a name that `RunSettings.strategy` allows.

    `multi_worker` must come before TensorFlow runs anything else.
    """
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU")
        if not devices:
            devices = tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return None


def is_multi_worker(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether other processes train along."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files."""
    if strategy is None or not is_multi_worker(strategy):
        return True
    return strategy.cluster_resolver.task_id == 0


def scope(
    strategy: tf.distribute.Strategy | None,
) -> contextlib.AbstractContextManager[object]:
    """The strategy's scope, or none."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def wait_for_all(strategy: tf.distribute.Strategy | None) -> None:
    """Returns when every worker has come here."""
    if strategy is not None and is_multi_worker(strategy):
        ones = strategy.run(lambda: tf.constant(1.0))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)
