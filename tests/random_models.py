"""Random Keras graphs with random weights, for properties that hold for all models."""

import keras

from tests.graphs import randomize
from tests.image_graphs import GraphMaker
from tests.sequence_graphs import SequenceMaker


def random_model(seed: int, steps: int | None = None) -> keras.Model:
    """A random graph with random weights: of images, and sometimes of sequences."""
    maker = SequenceMaker(seed) if seed % 4 == 3 else GraphMaker(seed)
    steps = int(maker.rng.integers(2, 10)) if steps is None else steps
    model = maker.build(steps)
    randomize(model, seed)
    return model
