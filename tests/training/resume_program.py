"""A training run that backs itself up, and may be killed in the middle of an epoch.

Usage: python -m tests.training.resume_program DIRECTORY [EPOCH BATCH]
Kills itself (SIGKILL) after that batch, if given; otherwise writes DIRECTORY/end.npz.
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import convnet, cross_entropy, images_and_labels


class Killer(keras.callbacks.Callback):
    """Ends the process as `kill -9` does, without any clean-up."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.target = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.target:
            os.kill(os.getpid(), signal.SIGKILL)


def main(directory, *target):
    directory = pathlib.Path(directory)
    # No seed: the seed of the draws must come back from the backup.
    model = wrap(convnet(), 0.5)
    model.compile(keras.optimizers.Adam(0.01), cross_entropy())
    backup = keras.callbacks.BackupAndRestore(directory / "backup")
    callbacks = [backup, Killer(*map(int, target))] if target else [backup]
    seed_file = directory / "seed.txt"
    if not seed_file.exists():
        seed_file.write_text(str(model.pruning_state.seed.numpy()))
    x, y = images_and_labels()
    history = model.fit(
        x, y, 8, epochs=6, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    np.savez(
        directory / "end.npz",
        *model.get_weights(),
        **{f"mask {group}": mask for group, mask in model.masks().items()},
        seed=model.pruning_state.seed.numpy(),
        epochs=len(history["loss"]),
        last_loss=history["loss"][-1],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
