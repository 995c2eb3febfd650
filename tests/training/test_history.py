"""The masks that `fit` hands back in its History."""

import keras
import numpy as np
import pytest

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import convnet, cross_entropy, images_and_labels

SFP = PruningConfig.preset("sfp", rate=schedules.published_cubic(end=1.0))


class Watch(keras.callbacks.Callback):
    """Looks at the masks itself, at the start and at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        if not self.seen:
            self.seen.append(self.model.masks())

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.masks())


def fit(model, epochs, *callbacks, **options):
    x, y = images_and_labels()
    return model.fit(
        x, y, 8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )


def compiled():
    model = wrap(convnet(), 0.5, method=SFP, seed=5)
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    return model


def assert_same_masks(masks, others):
    assert len(masks) == len(others)
    for one, other in zip(masks, others, strict=True):
        assert one.keys() == other.keys()
        for group, mask in one.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, other[group])


@pytest.mark.parametrize("validated", [False, True])
def test_masks_before_the_first_epoch_and_after_each(validated):
    model, watch = compiled(), Watch()
    options = {"validation_data": images_and_labels(8)} if validated else {}
    history = fit(model, 4, watch, **options)
    assert_same_masks(history.masks, watch.seen)
    kept = [entry["first"].sum() for entry in history.masks]
    # floor(8 * P (1 - (1 - x)^3)) at x = 1/4, 1/4, 1/2, 3/4, 1 go: the update before
    # the first epoch has the rate of t = 0, as the first one after it.
    assert kept == [6, 6, 5, 5, 4]


def test_a_later_call_starts_from_the_masks_that_the_one_before_left():
    model = compiled()
    first = fit(model, 2)
    second = fit(model, 1)
    assert len(second.masks) == 2
    assert_same_masks(second.masks[:1], first.masks[-1:])


def test_the_last_masks_are_the_model_s_where_a_callback_ends_the_run():
    # A run that is ended keeps the masks that it has trained with.
    model = compiled()
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 4)
    )
    history = fit(model, 20, stop)
    assert len(history.masks) == len(history.epoch) + 1 == 6
    assert_same_masks(history.masks[-1:], [model.masks()])
    assert 4 < history.masks[-1]["first"].sum() < 8
