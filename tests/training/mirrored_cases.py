"""What must hold under MirroredStrategy; run by test_distribution in a new process.

The two logical CPU devices must be made before TensorFlow starts.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pgmpf_tf.scores.criteria import Taylor
from pgmpf_tf.training.distillation import Distillation
from pgmpf_tf.training.recalibration import recalibrate
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def make(optimizer, metrics=(), **options):
    model = wrap(convnet(batchnorm=False), 0.5, seed=5, **options)
    model.compile(optimizer(), cross_entropy(), metrics=list(metrics))
    return model


def fit(model, epochs=3, validate=False):
    x, y = images_and_labels()
    return model.fit(
        x,
        y,
        8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(x, y) if validate else None,
    ).history


def assert_trained_as_one(model, single):
    assert_pruned(model)
    for group, mask in single.masks().items():
        np.testing.assert_array_equal(model.masks()[group], mask)
    for value, other in zip(model.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-4)


def per_replica(variable):
    return [v.numpy() for v in STRATEGY.experimental_local_results(variable.value)]


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01, use_ema=True),
}


@pytest.mark.parametrize(("name", "metrics"), [("sgd", ["accuracy"]), ("adam", [])])
def test_two_replicas_train_as_one(name, metrics):
    single = make(OPTIMIZERS[name], metrics)
    expected = fit(single, validate=bool(metrics))
    with STRATEGY.scope():
        model = make(OPTIMIZERS[name], metrics)
    history = fit(model, validate=bool(metrics))
    assert_trained_as_one(model, single)
    for key in expected:
        np.testing.assert_allclose(history[key], expected[key], rtol=1e-4, err_msg=key)
    for variable in [*model.variables, *model.pruning_state.variables]:
        first, second = per_replica(variable)
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_a_run_that_shrinks_goes_on_under_the_strategy():
    x, y = images_and_labels()

    def shrunk():
        model = make(OPTIMIZERS["adam"], method="gradual")
        small = model.fit_and_shrink(x, y, 8, epochs=4, shuffle=False, verbose=0)
        assert small.get_layer("first").filters == 4
        return small

    expected = shrunk()
    with STRATEGY.scope():
        model = shrunk()
    assert model.distribute_strategy is STRATEGY
    assert [int(step) for step in per_replica(model.optimizer.iterations)] == [16, 16]
    np.testing.assert_allclose(
        model.history.history["loss"], expected.history.history["loss"], rtol=1e-4
    )
    for value, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-4)
    for variable in model.variables:
        first, second = per_replica(variable)
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_statistics_start_anew_on_every_replica():
    def normalized():
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                keras.layers.Conv2D(8, 3, name="first"),
                keras.layers.BatchNormalization(name="norm", synchronized=True),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )
        model = wrap(model, 0.5, seed=5)
        model.compile(keras.optimizers.SGD(0.01), cross_entropy())
        return model

    single = normalized()
    expected = fit(single, validate=True)
    with STRATEGY.scope():
        model = normalized()
    history = fit(model, validate=True)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-3)
    for value, other in zip(model.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-4)
    assert int(single.pruning_state.steps_since) == 12
    for variable in [*model.variables, *model.pruning_state.variables]:
        first, second = per_replica(variable)
        np.testing.assert_allclose(first, second, atol=1e-6, err_msg=variable.path)


def test_a_teacher_and_a_criterion_on_data():
    x, y = images_and_labels()

    def taught():
        keras.utils.set_random_seed(2)
        teacher = keras.models.clone_model(convnet(batchnorm=False))
        return make(
            OPTIMIZERS["sgd"],
            distillation=Distillation(teacher),
            criterion=Taylor((x, y)),
        )

    single = taught()
    expected = fit(single)
    with STRATEGY.scope():
        model = taught()
    history = fit(model)
    assert_trained_as_one(model, single)
    for name in ("loss", "distillation_loss"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-3)
    plain = convnet()
    with pytest.raises(ValueError, match=r"`teacher` was made under no strategy"):
        wrap(model._unwrapped(), distillation=Distillation(plain))


def test_recalibration():
    x, _ = images_and_labels(50)
    single = convnet()
    with STRATEGY.scope():
        model = convnet()
    recalibrate(single, x)
    recalibrate(model, x)
    for value, other in zip(model.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
    for variable in model.get_layer("norm").non_trainable_variables:
        first, second = per_replica(variable)
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_the_wrapped_model_takes_the_strategy_of_its_model():
    with STRATEGY.scope():
        plain = convnet()
    model = wrap(plain, 0.5)
    assert model.distribute_strategy is STRATEGY
    assert len(per_replica(model.pruning_state.mask)) == 2


def test_loss_scaling_and_momenta():
    def optimizer():
        return keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.05, momentum=0.9)
        )

    with STRATEGY.scope():
        model = make(optimizer, method="asrfp")
    fit(model, 2)
    assert_pruned(model)
    x, y = images_and_labels(8)
    for _ in range(3):
        model.train_on_batch(x, y)
        assert_pruned(model)


def test_a_wrap_in_the_scope_of_another_strategy_is_refused():
    plain = convnet()
    with (
        STRATEGY.scope(),
        pytest.raises(ValueError, match=r"made under no strategy.*MirroredStrategy"),
    ):
        wrap(plain, 0.5)


def test_an_optimizer_of_another_strategy_is_refused():
    with STRATEGY.scope():
        model = wrap(convnet(), 0.5)
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    with pytest.raises(ValueError, match="optimizer was made under no strategy"):
        fit(model)
