"""Classes with a `fit` of their own, and wrapped models inside others."""

import keras
import pytest

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)


class Passing(keras.Model):
    def fit(self, *args, **kwargs):
        return super().fit(*args, **kwargs)


class Renamed(keras.Model):
    def fit(self, data, labels, rounds, **others):
        return super().fit(data, labels, 8, epochs=rounds, **others)


class Named(keras.Model):
    def fit(self, data, labels, rounds, callbacks=None):
        return super().fit(data, labels, 8, rounds, 0, callbacks)


class Closed(keras.Model):
    def fit(self, data, labels):
        return super().fit(data, labels, verbose=0)


class Deaf(keras.Model):
    def fit(self, data, labels, callbacks=None):
        return super().fit(data, labels, verbose=0)


def compiled(cls):
    body = convnet()
    model = wrap(cls(body.input, body.output), 0.5, seed=5)
    model.compile("sgd", cross_entropy())
    return model


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Passing, ((8, 4, 0), {})),
        (Passing, ((8, 4, 0, [keras.callbacks.Callback()]), {})),
        (Passing, ((), {"batch_size": 8, "epochs": 4, "verbose": 0})),
        (Renamed, ((4,), {"verbose": 0})),
        (Named, ((4,), {})),
        (Named, ((4, [keras.callbacks.Callback()]), {})),
    ],
)
def test_a_fit_of_the_class_s_own_prunes(cls, arguments):
    model = compiled(cls)
    args, kwargs = arguments
    history = model.fit(*images_and_labels(), *args, **kwargs)
    assert history.history["pruning_rate"] == [0.5] * 4
    assert len(history.masks) == 5
    assert_pruned(model)


def test_a_fit_that_takes_no_callbacks_is_refused():
    with pytest.raises(TypeError, match=r"`Closed.fit` takes no `callbacks`"):
        compiled(Closed).fit(*images_and_labels())


def test_a_fit_that_drops_its_callbacks_does_not_pass_for_pruning():
    with pytest.warns(UserWarning, match="has called no callback, so nothing was"):
        compiled(Deaf).fit(*images_and_labels())


def outer_model(inner):
    inputs = keras.Input((6, 6, 2))
    return keras.Model(inputs, keras.layers.Softmax()(inner(inputs)), name="outer")


class Outer(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs, training=None):
        return keras.ops.softmax(self.inner(inputs, training=training))


@pytest.mark.parametrize("outer", [outer_model, Outer])
def test_a_wrapped_model_inside_another_says_that_it_is_not_pruned(outer):
    model = wrap(convnet(), 0.5)
    whole = outer(model)
    whole.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="'convnet' is trained as a part of 'outer'"):
        whole.fit(*images_and_labels(), verbose=0)
