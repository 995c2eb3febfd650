"""A run on two networks that backs itself up, and may be killed in either phase.

Usage: python -m tests.training.shrink_program DIRECTORY [EPOCH BATCH]
Kills itself (SIGKILL) after that batch, if given; otherwise writes DIRECTORY/end.npz.
"""

import pathlib
import sys

import keras
import numpy as np

import pgmpf_tf
from tests.training.networks import convnet, cross_entropy, images_and_labels
from tests.training.resume_program import Killer

EPOCHS = 8
METHOD = pgmpf_tf.PruningConfig.preset("gradual", updates=3)
"""Over in the third epoch: 0.3 of 32 steps."""


def small_network(callbacks):
    """The whole run, or what is left of it."""
    model = pgmpf_tf.wrap(convnet(), 0.5, method=METHOD, seed=5)
    model.compile(keras.optimizers.Adam(0.01), cross_entropy())
    x, y = images_and_labels()
    return model.fit_and_shrink(
        x, y, 8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks
    )


def main(directory, *target):
    directory = pathlib.Path(directory)
    backup = keras.callbacks.BackupAndRestore(directory / "backup")
    killer = [Killer(*map(int, target))] if target else []
    small = small_network([backup, *killer])
    np.savez(
        directory / "end.npz",
        *small.get_weights(),
        epochs=small.history.epoch,
        last_loss=small.history.history["loss"][-1],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
