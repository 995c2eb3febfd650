"""One process of PyTorch's DistributedDataParallel, or one that stands for all.

Usage: python -m tests.training.parallel_program OUTPUT
With WORLD_SIZE in the environment it trains on its part of each batch. Writes weights
and masks to OUTPUT (.npz).
"""

import os
import sys

import keras
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import convnet, cross_entropy, images_and_labels

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
}
EPOCHS = 3


def main(output):
    processes, part = 1, 0
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
        processes = torch.distributed.get_world_size()
        part = torch.distributed.get_rank()
    results = {}
    for name in OPTIMIZERS:
        results.update(train(name, processes, part))
    np.savez(output, **results)
    if processes > 1:
        torch.distributed.destroy_process_group()


def train(name, processes, part):
    x, y = images_and_labels()
    options = {"method": "pgmpf_published", "epochs": EPOCHS, "seed": 5}
    model = wrap(convnet(batchnorm=False), 0.5, **options)
    optimizer, loss = OPTIMIZERS[name](), cross_entropy()
    optimizer.build(model.trainable_variables)
    called = DistributedDataParallel(model) if processes > 1 else model
    model.update_masks(-1, optimizer)
    for epoch in range(EPOCHS):
        for start in range(0, len(x), 8):
            mine = slice(start + part, start + 8, processes)
            model.zero_grad()
            loss(y[mine], called(torch.tensor(x[mine]), training=True)).backward()
            gradients = [v.value.grad for v in model.trainable_weights]
            model.apply_gradients(gradients, optimizer)
        model.update_masks(epoch, optimizer)
    found = {f"weight {i}": value for i, value in enumerate(model.get_weights())}
    found |= {f"mask of {group}": mask for group, mask in model.masks().items()}
    return {f"{name}: {key}": value for key, value in found.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
