"""PyTorch: loops and steps of the user's own."""

import keras
import numpy as np
import pytest

from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

if keras.backend.backend() != "torch":
    pytest.skip("tests the step of PyTorch", allow_module_level=True)
torch = pytest.importorskip("torch")

EPOCHS = 3


def by_hand(model, optimizer):
    """A training loop without `compile` and `fit`, as keras.io shows it."""
    x, y = images_and_labels()
    loss_function = cross_entropy()
    optimizer.build(model.trainable_variables)
    model.update_masks(-1, optimizer)
    for epoch in range(EPOCHS):
        for start in range(0, len(x), 8):
            model.zero_grad()
            outputs = model(x[start : start + 8], training=True)
            loss_function(y[start : start + 8], outputs).backward()
            gradients = [v.value.grad for v in model.trainable_weights]
            with torch.no_grad():
                gradients = model.mask_gradients(gradients, optimizer)
                optimizer.apply(gradients, model.trainable_weights)
        model.update_masks(epoch, optimizer)


@pytest.mark.feature("a training loop of one's own")
def test_a_loop_of_one_s_own_equals_fit():
    model = wrap(convnet(), 0.5, seed=5, epochs=EPOCHS)
    by_hand(model, keras.optimizers.SGD(0.05, momentum=0.9))
    other = wrap(convnet(), 0.5, seed=5)
    other.compile(keras.optimizers.SGD(0.05, momentum=0.9), cross_entropy())
    x, y = images_and_labels()
    other.fit(x, y, 8, epochs=EPOCHS, shuffle=False, verbose=0)
    assert_pruned(model)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


class OwnStep(keras.Model):
    """A step of the user's own, with an attribute that is a model."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.zero_grad()
        taught = keras.ops.stop_gradient(self.teacher(x, training=False))
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        loss = loss + 0.0 * keras.ops.sum(taught)
        loss.backward()
        variables = self.trainable_weights
        gradients = [v.value.grad for v in variables]
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
        return {"loss": loss}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.feature("a `train_step` of one's own")
def test_a_step_of_the_user_s_own_is_masked_alike(optimizer):
    x, y = images_and_labels(8)
    results = []
    for cls in (keras.Model, OwnStep):
        body = convnet()
        plain = cls(body.input, body.output)
        if cls is OwnStep:
            # Keras tells PyTorch's parameters apart by path: no name may come twice.
            parts = [keras.layers.Flatten(), keras.layers.Dense(3, name="taught")]
            plain.teacher = keras.Sequential([keras.Input((6, 6, 2)), *parts])
            plain.teacher.trainable = False
        model = wrap(plain, 0.5, seed=5)
        assert isinstance(model, cls)
        model.compile(optimizer, cross_entropy())
        model.fit(x, y, 4, epochs=3, shuffle=False, verbose=0)
        assert "apply" not in vars(model.optimizer)
        results.append([w.numpy() for w in model.trainable_weights])
    for value, other in zip(*results, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)


@pytest.mark.feature("`steps_per_execution`", refused=True)
def test_keras_has_no_several_steps_per_execution():
    x, y = images_and_labels(8)
    for model in (convnet(), wrap(convnet(), 0.5)):
        model.compile("sgd", cross_entropy(), steps_per_execution=3)
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
            model.fit(x, y, 4, verbose=0)
