"""A run on two logical CPU devices, which must be made before TensorFlow starts.

Usage: python -m tests.experiments.mirrored_program DIRECTORY
"""

import sys

import tensorflow as tf

from experiments.run import runner as runs
from experiments.run import settings, strategies


def main(directory):
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = strategies.strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    chosen = settings.resolve(
        strategy="mirrored",
        train_examples=320,
        batch_size=32,
        dense_epochs=1,
        epochs=2,
        formats=(),
    )
    runs.run(chosen, directory, strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
