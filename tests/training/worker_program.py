"""One worker of a MultiWorkerMirroredStrategy, or one process that stands for all.

Usage: python -m tests.training.worker_program OUTPUT OPTIMIZER
With TF_CONFIG in the environment the process is a worker. It trains, evaluates and
writes weights, masks and metrics to OUTPUT (.npz).
"""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


def main(output, optimizer):
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()

    from pgmpf_tf.training import wrap
    from tests.training.networks import convnet, cross_entropy, images_and_labels

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = tf.data.Dataset.from_tensor_slices(images_and_labels())
    data = data.batch(8).with_options(options)
    with strategy.scope():
        model = wrap(convnet(batchnorm=False), 0.5, seed=5)
        model.compile(OPTIMIZERS[optimizer](), cross_entropy(), metrics=["accuracy"])
    history = model.fit(data, epochs=3, verbose=0, validation_data=data).history
    metrics = model.evaluate(data, verbose=0, return_dict=True)
    np.savez(
        output,
        *model.get_weights(),
        **{f"mask {name}": mask for name, mask in model.masks().items()},
        **{f"history {name}": values for name, values in history.items()},
        **{f"metric {name}": value for name, value in metrics.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
