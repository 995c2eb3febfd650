"""Training loops and steps of the user's own, on TensorFlow."""

import keras
import numpy as np
import pytest

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.callbacks import PruningLog
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
    suppressing,
)

if keras.backend.backend() != "tensorflow":
    pytest.skip("test_jax.py and test_torch.py have theirs", allow_module_level=True)
tf = pytest.importorskip("tensorflow")

EPOCHS = 3


def by_hand(model, optimizer, update_options):
    """A training loop without `compile` and `fit`."""
    x, y = images_and_labels()
    loss_function = cross_entropy()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        gradients = model.mask_gradients(gradients, **update_options)
        optimizer.apply(gradients, model.trainable_variables)

    optimizer.build(model.trainable_variables)
    model.update_masks(-1, **update_options)
    values = []
    for epoch in range(EPOCHS):
        for start in range(0, len(x), 8):
            step(x[start : start + 8], y[start : start + 8])
        values.append(model.update_masks(epoch, **update_options))
    return values


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.feature("a training loop of one's own")
def test_a_loop_of_one_s_own_equals_fit(compiled):
    model, other = (
        wrap(convnet(), 0.5, seed=5, epochs=EPOCHS),
        wrap(convnet(), 0.5, seed=5),
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    if compiled:
        model.compile(optimizer, cross_entropy())
        values = by_hand(model, model.optimizer, {})
    else:
        values = by_hand(model, optimizer, {"optimizer": optimizer})
    other.compile(keras.optimizers.SGD(0.05, momentum=0.9), cross_entropy())
    x, y = images_and_labels()
    history = other.fit(x, y, 8, epochs=EPOCHS, shuffle=False, verbose=0).history
    assert_pruned(model)
    for name in ("pruning_rate", "suppression", "weight_mask"):
        assert [value[name] for value in values] == history[name]
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def step_by_step(model, optimizer, apply):
    """A training loop that says at every step how far it is."""
    x, y = images_and_labels(96)
    loss_function = cross_entropy()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        apply(tape.gradient(loss, model.trainable_variables))

    optimizer.build(model.trainable_variables)
    starts = range(0, len(x), 4)
    for number, start in enumerate(starts):
        model.update_masks(progress=number / len(starts), optimizer=optimizer)
        step(x[start : start + 4], y[start : start + 4])
    return model.update_masks(progress=1.0, optimizer=optimizer)


SUPPRESSED = PruningConfig(
    rate=schedules.cubic(end=0.5),
    weight_mask=schedules.decay(end=0.5),
    suppression=schedules.scaled(schedules.cubic(end=0.5), 0.5, 1.0),
    updates=4,
)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("suppress", ["auto", "gradient"])
def test_a_loop_that_says_how_far_it_is_equals_fit(name, suppress):
    options = {"method": SUPPRESSED, "suppress": suppress, "seed": 5}
    model, other = wrap(convnet(), 0.5, **options), wrap(convnet(), 0.5, **options)
    optimizer = keras.optimizers.get(name)
    values = step_by_step(
        model, optimizer, lambda gradients: model.apply_gradients(gradients, optimizer)
    )
    other.compile(name, cross_entropy())
    x, y = images_and_labels(96)
    other.fit(x, y, 4, epochs=1, shuffle=False, verbose=0)
    assert values == other.pruning_values()
    assert_pruned(model)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_progress_or_epoch_but_not_both():
    model = wrap(convnet(), 0.5)
    for arguments in ({}, {"epoch": 0, "progress": 0.5}):
        with pytest.raises(ValueError, match="takes one of `epoch` and `progress`"):
            model.update_masks(**arguments)
    with pytest.raises(ValueError, match=r"`progress` must be .*\[0, 1\]"):
        model.update_masks(progress=2.0)
    published = wrap(convnet(), 0.5, method="sfp")
    with pytest.raises(ValueError, match=r"give `epoch`.*progress=0.5"):
        published.update_masks(progress=0.5)


def test_an_optimizer_that_was_used_before_moves_nothing_that_is_gone():
    x, y = images_and_labels()
    used = keras.optimizers.SGD(0.05, momentum=0.9)
    plain = convnet()
    plain.compile(used, cross_entropy())
    plain.train_on_batch(x, y)
    model = wrap(plain, 0.5)
    model.apply_masks()
    model.compile(used, cross_entropy())
    for _ in range(3):
        model.train_on_batch(x, y)
        assert_pruned(model)


def test_mask_gradients_is_the_formula():
    model = wrap(convnet(), 0.5, method=suppressing(0.75), epochs=10)
    optimizer = keras.optimizers.SGD(0.1)
    model.update_masks(-1, optimizer)
    gradients = [tf.ones_like(v) for v in model.trainable_variables]
    gradients[-1] = None
    masked = model.mask_gradients(gradients, optimizer)
    assert masked[-1] is None
    factors = {
        name: np.where(mask == 1, 1.0, 0.25) for name, mask in model.masks().items()
    }
    for variable, gradient in zip(model.trainable_variables, masked, strict=True):
        if gradient is None:
            continue
        layer = variable.path.split("/")[0]
        expected = {
            "first": factors["first"],
            "norm": factors["first"],
            "second": factors["second"],
            "slope": factors["second"],
            "depthwise": factors["second"],
            "scores": np.ones(3),
        }[layer]
        if layer == "depthwise" and variable.name == "kernel":
            expected = expected[:, None]
        expected = np.broadcast_to(expected, gradient.shape)
        np.testing.assert_allclose(gradient, expected, err_msg=variable.path)


def test_what_a_loop_must_know_is_asked_for():
    model = wrap(convnet(), 0.5)
    gradients = [tf.ones_like(v) for v in model.trainable_variables]
    with pytest.raises(ValueError, match="needs the optimizer"):
        model.mask_gradients(gradients)
    optimizer = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match=r"each of the \d+ trainable.*3 gradients"):
        model.mask_gradients(gradients[:3], optimizer)
    with pytest.raises(ValueError, match=r"epochs is not known.*`epochs=` to `wrap`"):
        model.update_masks(-1)
    with pytest.raises(ValueError, match=r"`epoch` must be an int of at least -1.*-2"):
        model.update_masks(-2)


@keras.saving.register_keras_serializable("tests")
class Distiller(keras.Model):
    """A Functional subclass with a step, a loss tracker and attributes of its own."""

    def __init__(self, inputs, outputs, temperature=2.0, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.temperature = temperature
        self.teacher = None
        self.distance = keras.metrics.Mean(name="distance")

    def train_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        taught = keras.ops.softmax(self.teacher(x) / self.temperature)
        with tf.GradientTape() as tape:
            scores = self(x, training=True) / self.temperature
            loss = keras.ops.mean(
                keras.losses.categorical_crossentropy(taught, scores, from_logits=True)
            )
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.distance.update_state(loss)
        return {"distance": self.distance.result()}

    def get_config(self):
        functional = keras.Model(self.input, self.output)
        return {
            "body": keras.saving.serialize_keras_object(functional),
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config):
        body = keras.saving.deserialize_keras_object(config["body"])
        return cls(body.input, body.output, config["temperature"])


def distiller():
    body = convnet()
    return Distiller(body.input, body.output, temperature=4.0, name="student")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.feature("a `train_step` of one's own")
def test_a_step_of_the_user_s_own_runs_and_is_masked(optimizer, tmp_path):
    x, y = images_and_labels()
    teacher = convnet("teacher")
    teacher.trainable = False  # and its layers have the names of the student's
    student = distiller()
    student.teacher = teacher
    model = wrap(student, 0.5, method="asrfp")
    assert isinstance(model, Distiller)
    assert model.temperature == 4.0
    model.compile(optimizer)
    before = model.get_layer("first").kernel.numpy()
    history = model.fit(x, y, 8, epochs=2, verbose=0).history
    assert len(history["distance"]) == 2
    assert history["pruning_rate"] == [0.0, 0.5]
    assert_pruned(model)
    for _ in range(3):
        model.train_on_batch(x, y)
        assert_pruned(model)
    after = model.get_layer("first").kernel.numpy()
    kept = model.masks()["first"] == 1
    assert (after != before)[..., kept].any((0, 1, 2)).all()
    model.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    assert isinstance(loaded, Distiller)
    assert loaded.temperature == 4.0
    assert loaded.masks().keys() == model.masks().keys()
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    # A wrapped model of Keras' own classes still loads as one.
    wrap(convnet(), 0.5).save(tmp_path / "plain.keras")
    assert not isinstance(keras.saving.load_model(tmp_path / "plain.keras"), Distiller)


class Raw(keras.Model):
    """A step that hands TensorFlow's variables to the optimizer, in its own order."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        variables = [v.value for v in reversed(self.trainable_variables)]
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_with_variables_of_tensorflow_is_masked_alike(optimizer):
    x, y = images_and_labels(8)
    results = []
    for cls in (keras.Model, Raw):
        body = convnet()
        model = wrap(cls(body.input, body.output), 0.5, seed=5)
        model.compile(optimizer, cross_entropy())
        model.optimizer.build(model.trainable_variables)
        model.fit(x, y, 4, epochs=3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for value, other in zip(*results, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


def test_the_optimizer_is_left_as_it_was():
    model = wrap(convnet(), 0.5)
    model.compile("adam", cross_entropy(), run_eagerly=True)
    x, y = images_and_labels(8)
    names = set(vars(model.optimizer)) | {"apply"}
    model.fit(x, y, epochs=1, verbose=0)
    assert "apply" not in vars(model.optimizer)
    assert set(vars(model.optimizer)) >= names - {"apply"}
    with pytest.raises(ValueError, match=r"shape|dimension|logits"):
        model.train_on_batch(x, np.zeros((3, 7)))
    assert "apply" not in vars(model.optimizer)


def test_pruning_log_needs_a_wrapped_model(tmp_path):
    model = convnet()
    model.compile("sgd", cross_entropy())
    x, y = images_and_labels(8)
    with pytest.raises(TypeError, match="PruningLog needs a model that"):
        model.fit(x, y, verbose=0, callbacks=[PruningLog(tmp_path)])
