"""What `PruningLog` writes, read back from the event files."""

import keras
import numpy as np
import pytest

from pgmpf_tf.training.callbacks import PruningLog
from pgmpf_tf.training.wrapping import wrap
from tests.training.event_files import read_events
from tests.training.networks import convnet, cross_entropy, images_and_labels

EPOCHS = 3


class Norms(keras.callbacks.Callback):
    """Notes the norms of the filters at the end of each epoch, layer by layer."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        kernels = {
            name: self.model.get_layer(name).kernel.numpy()
            for name in ("first", "second", "depthwise")
        }
        squares = {
            "first": np.square(kernels["first"]).sum((0, 1, 2)),
            "second": np.square(kernels["second"]).sum((0, 1, 2))
            + np.square(kernels["depthwise"]).sum((0, 1, 3)),
        }
        self.seen.append({name: np.sqrt(value) for name, value in squares.items()})


def trained(*callbacks):
    x, y = images_and_labels()
    model = wrap(convnet(), 0.5, seed=5)
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    model.fit(x, y, 8, epochs=EPOCHS, verbose=0, callbacks=list(callbacks))
    return model


def read_histograms(directory):
    """Arrays `(bins, 3)` of left edge, right edge and count, by tag and step."""
    found = {}
    for plugin, tag, step, bins in read_events(directory):
        if plugin == "histograms":
            found.setdefault(tag, {})[step] = bins
    return found


def test_norms_are_those_of_all_kernels_that_go_with_a_filter():
    watch = Norms()
    norms = trained(watch).filter_norms()
    assert norms.keys() == {"first", "second"}
    for group, expected in watch.seen[-1].items():
        np.testing.assert_allclose(norms[group], expected, rtol=1e-6)


def test_histograms_tell_the_norms_of_each_epoch(tmp_path):
    watch = Norms()
    model = trained(watch, PruningLog(str(tmp_path)))
    histograms = read_histograms(tmp_path)
    assert histograms.keys() == {"filter_norms/first", "filter_norms/second"}
    for group in ("first", "second"):
        steps = histograms[f"filter_norms/{group}"]
        assert sorted(steps) == [*range(EPOCHS)]
        for step, bins in steps.items():
            norms = watch.seen[step][group]
            assert bins[0, 0] == pytest.approx(norms.min(), abs=1e-6)
            assert bins[-1, 1] == pytest.approx(norms.max(), rel=1e-6)
            assert bins[:, 2].sum() == len(norms)
        # In the end, as many as are masked are zero, and the others are not.
        masked = (model.masks()[group] == 0).sum()
        assert bins[0, 0] == 0.0
        assert bins[0, 2] == masked


def test_histograms_can_be_left_out(tmp_path):
    trained(PruningLog(str(tmp_path), histograms=False))
    assert list(tmp_path.rglob("*tfevents*"))
    assert read_histograms(tmp_path) == {}
