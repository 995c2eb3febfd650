"""What must hold under keras.distribution; run by test_distribution in a new process.

The four host devices must be asked for before JAX starts.
"""

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf.scores.criteria import Taylor
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

DEVICES = keras.distribution.list_devices("cpu")
SHARDED = {
    "first/kernel": (None, None, None, "model"),
    "first/bias": ("model",),
    "norm/(gamma|beta|moving_mean|moving_variance)": ("model",),
    "second/kernel": (None, None, "model", None),
}


def data_parallel(count):
    return keras.distribution.DataParallel(devices=DEVICES[:count])


def model_parallel(replicas, parts):
    count = replicas * parts
    mesh = keras.distribution.DeviceMesh(
        (replicas, parts), ["batch", "model"], DEVICES[:count]
    )
    layouts = keras.distribution.LayoutMap(mesh)
    for path, axes in SHARDED.items():
        layouts[path] = axes
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


DISTRIBUTIONS = {
    "data on 2": lambda: data_parallel(2),
    "data on 4": lambda: data_parallel(4),
    "model on 2": lambda: model_parallel(1, 2),
    "data and model on 4": lambda: model_parallel(2, 2),
}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


# The optimizer, and whether there is BatchNorm.
CASES = [("sgd", False), ("adam", True)]


class Traced(keras.Model):
    """Counts how often its training step is traced."""

    traces = 0

    def train_step(self, state, data):
        self.traces += 1
        return super().train_step(state, data)


def make(optimizer, batchnorm, kind=Traced, **options):
    body = convnet(batchnorm=batchnorm)
    model = kind(body.input, body.output)
    model = pgmpf_tf.wrap(model, 0.5, method="pgmpf_published", seed=5, **options)
    model.compile(OPTIMIZERS[optimizer](), cross_entropy())
    return model


def fit(model, epochs=3):
    x, y = images_and_labels()
    return model.fit(x, y, 8, epochs=epochs, shuffle=False, verbose=0).history


def sharding(variable):
    return variable.value.sharding


def assert_trained_as_one(model, single):
    assert_pruned(model)
    for group, mask in single.masks().items():
        np.testing.assert_array_equal(model.masks()[group], mask)
    for value, other in zip(model.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-4)


@pytest.fixture(scope="module")
def singles():
    found = {case: make(*case) for case in CASES}
    for model in found.values():
        fit(model)
    return found


def test_there_are_four_devices():
    assert len(DEVICES) == 4


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_several_devices_train_as_one(name, case, singles):
    distribution = DISTRIBUTIONS[name]()
    with distribution.scope():
        model = make(*case)
        fit(model)
    assert_trained_as_one(model, singles[case])
    assert model.traces == 1


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_masks_and_weights_stay_where_they_belong(name):
    distribution = DISTRIBUTIONS[name]()
    with distribution.scope():
        model = make("sgd", True)
        before = [sharding(variable) for variable in model.variables]
        fit(model)
        after = [sharding(variable) for variable in model.variables]
    for variable, old, new in zip(model.variables, before, after, strict=True):
        assert new.is_equivalent_to(old, variable.ndim), variable.path
        assert new.device_set == old.device_set, variable.path
    parts = distribution.device_mesh
    # Each mask is of many layers: all devices have all of it.
    for variable in model.pruning_state.variables:
        assert sharding(variable).is_fully_replicated
        assert len(sharding(variable).device_set) == parts.devices.size
    whole = "model" not in parts.axis_names
    kernel = model.get_layer("first").kernel
    assert sharding(kernel).is_fully_replicated == whole


def test_a_teacher_and_a_criterion_on_data():
    x, y = images_and_labels()

    def taught():
        teacher = keras.models.clone_model(convnet(batchnorm=False))
        teacher.set_weights([w + 0.1 for w in convnet(batchnorm=False).get_weights()])
        return make(
            "sgd",
            False,
            distillation=pgmpf_tf.Distillation(teacher),
            criterion=Taylor((x, y), cross_entropy()),
        )

    single = taught()
    expected = fit(single)
    with model_parallel(2, 2).scope():
        model = taught()
        history = fit(model)
    assert_trained_as_one(model, single)
    for name in ("loss", "distillation_loss"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-3)


def test_recalibration_and_what_is_left():
    x, y = images_and_labels()
    single = make("sgd", True, keras.Model)
    fit(single)
    with data_parallel(2).scope():
        model = make("sgd", True, keras.Model)
        fit(model)
        pgmpf_tf.recalibrate(model, x)
        small = pgmpf_tf.compact(model, compile=True)
        wanted = model.predict(x, 8, verbose=0)
        np.testing.assert_allclose(small.predict(x, 8, verbose=0), wanted, atol=1e-5)
        small.fit(x, y, 8, epochs=1, shuffle=False, verbose=0)
    pgmpf_tf.recalibrate(single, x)
    other = pgmpf_tf.compact(single, compile=True)
    other.fit(x, y, 8, epochs=1, shuffle=False, verbose=0)
    for value, found in zip(other.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(found, value, atol=1e-4)
