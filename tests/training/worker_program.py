"""One worker of a MultiWorkerMirroredStrategy, or one process that stands for all.

Usage: python -m tests.training.worker_program OUTPUT
With TF_CONFIG in the environment the process is a worker. It trains, evaluates and
writes weights, masks and metrics to OUTPUT (.npz).
"""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import convnet, cross_entropy, images_and_labels

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


def main(output):
    if "TF_CONFIG" in os.environ:
        # Before anything else touches TensorFlow: it starts the worker's server.
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    results = {}
    for name in OPTIMIZERS:
        results.update(train(strategy, name))
    np.savez(output, **results)


def train(strategy, name):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = tf.data.Dataset.from_tensor_slices(images_and_labels())
    data = data.batch(8).with_options(options)
    with strategy.scope():
        model = wrap(convnet(batchnorm=False), 0.5, seed=5)
        model.compile(OPTIMIZERS[name](), cross_entropy(), metrics=["accuracy"])
    history = model.fit(data, epochs=3, verbose=0, validation_data=data).history
    metrics = model.evaluate(data, verbose=0, return_dict=True)
    results = {
        **{f"weight {i}": value for i, value in enumerate(model.get_weights())},
        **{f"mask of {group}": mask for group, mask in model.masks().items()},
        **{f"history of {key}": values for key, values in history.items()},
        **metrics,
    }
    return {f"{name}: {key}": value for key, value in results.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
