"""The small network goes on where the masked one stood."""

import warnings

import keras
import numpy as np
import pytest

import pgmpf_tf
from tests.training.networks import cross_entropy, images_and_labels

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "lion": lambda: keras.optimizers.Lion(0.001, weight_decay=0.1),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05, beta=0.1),
    "schedule free": lambda: keras.optimizers.ScheduleFreeAdamW(0.01),
    "learning rate schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.02, 12)
    ),
    "learning rate function": lambda: keras.optimizers.Adam(lambda: 0.02),
    "average": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    ),
    # It stops amid a sum.
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=4),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=4.0, dynamic_growth_steps=5
    ),
    "global clipnorm": lambda: keras.optimizers.SGD(
        0.05, momentum=0.9, global_clipnorm=0.1
    ),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.05, momentum=0.9),
            {".*kernel": keras.optimizers.Adam(0.01)},
        )
    ),
}


def network():
    """Two convolutions that are added up, with BatchNorm."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    images = keras.Input((6, 6, 2), name="images")
    x = layers.Conv2D(8, 3, use_bias=False, name="first")(images)
    # Its averages have settled two steps after a change of the masks.
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5, name="norm")(x))
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="second")(x)])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(images, layers.Dense(3, name="scores")(x))


def trained(optimizer, coupling="grouped", model=None, **options):
    """A wrapped network, some steps after its masks have settled."""
    model = pgmpf_tf.wrap(model or network(), 0.5, coupling=coupling, seed=5)
    options = {"loss": cross_entropy(), "run_eagerly": True} | options
    model.compile(optimizer, **options)
    x, y = images_and_labels(24)
    model.train_on_batch(x[:8], y[:8])
    model.apply_masks()
    for start in (8, 16):
        model.train_on_batch(x[start : start + 8], y[start : start + 8])
    return model


def after(model, steps=5):
    """Outputs after some more steps."""
    x, y = images_and_labels(8 * steps, seed=7)
    for start in range(0, 8 * steps, 8):
        model.train_on_batch(x[start : start + 8], y[start : start + 8])
    # Training's own: the moving statistics of the masked network are not plain ones.
    return keras.ops.convert_to_numpy(model(x, training=True))


def distance(first, second):
    return np.abs(first - second).max() / np.abs(first).max()


def continued(model):
    """The small network; nothing of the optimizer's memory may be lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return pgmpf_tf.compact(model, compile=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_the_small_network_are_those_of_the_masked_one(name):
    model = trained(OPTIMIZERS[name]())
    small = continued(model)
    assert small.count_params() < 0.5 * model.count_params()
    assert small.optimizer.iterations == model.optimizer.iterations
    assert distance(after(model), after(small)) < 1e-5
    for one, other in zip(
        *(m.optimizer.variables for m in (model, small)), strict=True
    ):
        assert one.shape or one == other, one.path


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_fresh_optimizer_would_part_from_the_masked_network(name):
    model = trained(OPTIMIZERS[name]())
    small = pgmpf_tf.compact(model)
    small.compile(OPTIMIZERS[name](), cross_entropy(), run_eagerly=True)
    assert distance(after(model), after(small)) > 1e-2


def test_it_goes_on_where_branches_kept_different_channels():
    model = trained(keras.optimizers.Adam(0.01), coupling="independent")
    small = continued(model)
    assert "Take" in {type(operation).__name__ for operation in small.operations}
    assert distance(after(model), after(small)) < 1e-5


@pytest.mark.feature("`compact(compile=True)`")
def test_it_goes_on_as_a_graph_and_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = trained(keras.optimizers.Adam(0.01), run_eagerly=False)
        small = continued(model)
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(small.optimizer, keras.optimizers.LossScaleOptimizer)
    assert small.optimizer.dynamic_scale == model.optimizer.dynamic_scale
    assert distance(after(model), after(small)) < 0.03  # float16, and few steps of it


def two_headed():
    model = network()
    extra = keras.layers.Dense(2, name="extra")(model.layers[-2].output)
    return keras.Model(model.input, {"scores": model.output, "extra": extra})


def test_everything_that_compile_was_told_stays():
    several = 1 if keras.backend.backend() == "torch" else 2  # Keras has 1 only there
    model = pgmpf_tf.wrap(two_headed(), 0.5)
    model.compile(
        keras.optimizers.Adam(0.01),
        loss={"scores": cross_entropy(), "extra": "mse"},
        loss_weights={"scores": 0.25, "extra": 3.0},
        metrics={"scores": ["accuracy"], "extra": [keras.metrics.MeanAbsoluteError()]},
        weighted_metrics={"extra": ["mse"]},
        steps_per_execution=several,
    )
    x, y = images_and_labels()
    targets = {"scores": y, "extra": x[:, 0, 0]}
    weights = {name: np.linspace(0, 1, len(x)) for name in targets}
    model.fit(x, targets, 8, sample_weight=weights, verbose=0)
    model.apply_masks()
    model.optimizer.learning_rate = 0.001
    small = continued(model)
    assert small.steps_per_execution == several
    assert not small.run_eagerly
    assert small.optimizer.learning_rate == model.optimizer.learning_rate
    results = [
        m.evaluate(x, targets, 8, 0, weights, return_dict=True) for m in (model, small)
    ]
    assert results[0].keys() == results[1].keys()
    assert len(results[0]) > 5
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-5), name
    small.fit(x, targets, 8, sample_weight=weights, verbose=0)


@pytest.mark.parametrize("choice", [{"jit_compile": True}, {"run_eagerly": True}])
def test_the_way_steps_are_compiled_stays(choice):
    model = pgmpf_tf.wrap(network(), 0.5)
    model.compile("sgd", "mse", **choice)
    model.apply_masks()
    small = continued(model)
    assert small.jit_compile is choice.get("jit_compile", False)
    assert small.run_eagerly is choice.get("run_eagerly", False)


def test_a_model_that_is_not_wrapped_goes_on_as_well():
    model = network()
    model.compile(keras.optimizers.Adam(0.01), cross_entropy(), run_eagerly=True)
    after(model, 2)
    layer = model.get_layer("second")
    for weight in layer.weights:
        weight.assign(weight.numpy() * ([0.0] * 3 + [1.0] * 5))
    small = continued(model)
    assert small.get_layer("second").filters == 5
    for attribute in ("_momentums", "_velocities"):
        memory = {
            m: {
                variable.path: slot.numpy()
                for variable, slot in zip(
                    m.trainable_variables, getattr(m.optimizer, attribute), strict=True
                )
            }
            for m in (model, small)
        }
        np.testing.assert_array_equal(
            memory[small]["second/kernel"], memory[model]["second/kernel"][..., 3:]
        )
        np.testing.assert_array_equal(
            memory[small]["first/kernel"], memory[model]["first/kernel"]
        )


def test_weight_decay_spares_what_it_spared():
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    model = network()
    optimizer.exclude_from_weight_decay([model.get_layer("first").kernel], ["gamma"])
    small = continued(trained(optimizer, model=model))
    spared = [
        variable.path
        for variable in small.trainable_variables
        if not small.optimizer._use_weight_decay(variable)
    ]
    assert spared == ["first/kernel", "norm/gamma"]


def test_penalties_on_weights_stay():
    plain = network()
    plain.get_layer("second").kernel.regularizer = keras.regularizers.L2(0.5)
    model = trained(keras.optimizers.SGD(0.05), model=plain)
    small = continued(model)
    assert small.losses
    assert distance(after(model), after(small)) < 1e-5


def test_a_teacher_does_not_come_along_and_it_says_so():
    teacher = pgmpf_tf.Distillation(network())
    model = pgmpf_tf.wrap(network(), 0.5, distillation=teacher)
    model.compile("sgd", cross_entropy())
    model.apply_masks()
    with pytest.warns(UserWarning, match="loss of the task alone"):
        pgmpf_tf.compact(model, compile=True)


@pytest.mark.parametrize("compile", [False, True])
def test_a_network_whose_pruning_is_not_complete_says_so(compile):
    model = pgmpf_tf.wrap(network(), 0.5)
    model.compile("sgd", cross_entropy())
    with pytest.warns(UserWarning, match=r"not complete, its pruning rate is 0\.00"):
        pgmpf_tf.compact(model, compile=compile)
    model.apply_masks()
    continued(model)


def test_muon_keeps_its_momenta():
    small = continued(trained(keras.optimizers.Muon(0.01, ns_steps=3)))
    assert small.optimizer.ns_steps == 3
    assert all(slot.numpy().any() for slot in small.optimizer.momentums)
    after(small, 1)


def test_an_optimizer_that_is_not_built_begins_with_the_small_network():
    model = pgmpf_tf.wrap(network(), 0.5)
    model.apply_masks()
    model.pruning_state.steps_since.assign(2)
    model.compile(keras.optimizers.Adam(0.01), cross_entropy(), run_eagerly=True)
    small = continued(model)
    assert small.optimizer.iterations == 0
    assert distance(after(model), after(small)) < 1e-5


def test_what_cannot_be_cut_is_named():
    model = trained(keras.optimizers.Adafactor(0.01))
    with pytest.warns(UserWarning, match=r"starts anew: _r of first/kernel, .* _c of"):
        small = pgmpf_tf.compact(model, compile=True)
    paths = [variable.path for variable in small.trainable_variables]
    assert not small.optimizer._r[paths.index("scores/kernel")].numpy().any()
    assert small.optimizer._v[paths.index("scores/bias")].numpy().all()
    after(small, 1)


def test_without_compile_nothing_is_compiled():
    small = pgmpf_tf.compact(trained(keras.optimizers.Adam(0.01)))
    assert not small.compiled


def test_what_cannot_go_on_is_an_error():
    with pytest.raises(TypeError, match="must be a Keras model"):
        pgmpf_tf.compact("model", compile=True)
    with pytest.raises(ValueError, match="needs a model that is compiled"):
        pgmpf_tf.compact(network(), compile=True)

    class OwnStep(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    plain = network()
    model = pgmpf_tf.wrap(OwnStep(plain.input, plain.output), 0.5)
    model.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="OwnStep defines `train_step`"):
        pgmpf_tf.compact(model, compile=True)

    class NoConfig(keras.optimizers.SGD):
        def __init__(self, rate):
            super().__init__(rate)

    sgd = keras.optimizers.SGD(0.1)
    for optimizer in (NoConfig(0.1), keras.optimizers.MultiOptimizer(lambda v: sgd)):
        model = pgmpf_tf.wrap(network(), 0.5)
        model.compile(optimizer, cross_entropy())
        with pytest.raises(ValueError, match=r"a second time.*Received: optimizer="):
            pgmpf_tf.compact(model, compile=True)
