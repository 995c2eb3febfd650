"""A masked filter behaves under every Keras optimizer and every option of theirs."""

import functools

import keras
import numpy as np
import pytest

from pgmpf_tf.training.optimizers import steps_follow_rate
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
    pruned_slices,
    suppressing,
)

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.05),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(
        0.05,
        l1_regularization_strength=0.01,
        l2_shrinkage_regularization_strength=0.01,
    ),
    "lion": lambda: keras.optimizers.Lion(0.003, weight_decay=0.1),
    "lamb": lambda: keras.optimizers.Lamb(0.01, weight_decay=0.1),
    "muon": lambda: keras.optimizers.Muon(0.01, weight_decay=0.1),
    "schedule free": lambda: keras.optimizers.ScheduleFreeAdamW(0.01),
    "clipnorm": lambda: keras.optimizers.Adam(0.01, clipnorm=0.01),
    "clipvalue": lambda: keras.optimizers.SGD(0.05, momentum=0.9, clipvalue=0.01),
    "global clipnorm": lambda: keras.optimizers.SGD(
        0.05, momentum=0.9, global_clipnorm=0.01
    ),
    "average": lambda: keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True),
    "average that overwrites": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_overwrite_frequency=3
    ),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05, momentum=0.9)
    ),
    "learning rate schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.05, 20), momentum=0.9
    ),
}


def compiled(optimizer, model=None, run_eagerly=False, **options):
    model = wrap(model or convnet(), 0.5, seed=5, **options)
    model.compile(optimizer, cross_entropy(), run_eagerly=run_eagerly)
    return model


# Scaling the update leaves what the optimizer does inside alone; these are odd inside.
UPDATES = (
    "sgd",
    "adamw",
    "ftrl",
    "schedule free",
    "average",
    "average that overwrites",
)


FEATURES = {
    "accumulation": "gradient accumulation",
    "average that overwrites": "moving averages of weights (`use_ema`)",
    "average": "moving averages of weights (`use_ema`)",
    "clipnorm": "clipping of gradients",
    "clipvalue": "clipping of gradients",
    "global clipnorm": "clipping of gradients",
    "loss scale": "`LossScaleOptimizer`",
}


def case(name, suppress):
    marks = [pytest.mark.feature(FEATURES[name])] if name in FEATURES else []
    return pytest.param(name, suppress, marks=marks)


@pytest.mark.parametrize(
    ("name", "suppress"),
    [case(name, "gradient") for name in OPTIMIZERS]
    + [case(name, "update") for name in UPDATES],
)
def test_a_hard_masked_filter_stays_exactly_zero(name, suppress):
    # With asrfp nothing is suppressed before the end: momenta of the filters that
    # go are as large as all others when the last update comes.
    # What is odd about an optimizer is so without a graph as well, three times as fast.
    traced = name in ("sgd", "adam", *FEATURES)
    model = compiled(
        OPTIMIZERS[name](), method="asrfp", suppress=suppress, run_eagerly=not traced
    )
    x, y = images_and_labels()
    # Some of the traced ones act in every third step or fourth only.
    size = 8 if traced else 16
    model.fit(x, y, size, epochs=2, verbose=0)
    assert_pruned(model)
    before = model.get_layer("first").kernel.numpy()
    # Not by `fit`, which would set right at its end what had gone wrong.
    for start in range(0, len(x), size):
        model.train_on_batch(x[start : start + size], y[start : start + size])
        assert_pruned(model)
    after = model.get_layer("first").kernel.numpy()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    assert_pruned(model)
    kept = model.masks()["first"] == 1
    assert (after != before)[..., kept].any((0, 1, 2)).all()
    assert np.isfinite(after).all()


@pytest.mark.parametrize("suppress", ["gradient", "update"])
def test_adafactor_takes_steps_where_inputs_and_outputs_are_masked(suppress):
    # From the first step on: its averages have no gradient to remember.
    optimizer = OPTIMIZERS["adafactor"]()
    settings = optimizer.get_config()
    model = compiled(optimizer, method="hard", suppress=suppress)
    x, y = images_and_labels()
    model.fit(x, y, 8, epochs=2, verbose=0)
    assert_pruned(model)
    assert [model.masks()[name].sum() for name in ("first", "second")] == [4, 3]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert model.optimizer.get_config() == settings


def test_every_optimizer_of_keras_is_tested():
    # On PyTorch Keras makes a subclass of its own of what is asked for.
    classes = {base for make in OPTIMIZERS.values() for base in type(make()).__mro__}
    public = {
        value
        for value in vars(keras.optimizers).values()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    }
    left = public - classes - {keras.optimizers.Optimizer}
    assert {cls.__name__ for cls in left} <= {"MultiOptimizer"}


def test_several_optimizers_in_one():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    sgd, adam = keras.optimizers.SGD(0.05, momentum=0.9), keras.optimizers.Adam(0.01)
    both = keras.optimizers.MultiOptimizer(
        lambda variable: sgd if "kernel" in variable.path else adam
    )
    model = compiled(both, method="asrfp")
    x, y = images_and_labels()
    model.fit(x, y, 8, epochs=2, verbose=0)
    for _ in range(3):
        model.train_on_batch(x, y)
        assert_pruned(model)


def moved(suppression, optimizer, suppress, steps=50):
    """How far the pruned slices go in `steps` steps under a constant suppression."""
    model = compiled(
        optimizer, method=suppressing(suppression), epochs=1000, suppress=suppress
    )
    model.update_masks(-1)
    start = pruned_slices(model)
    x, y = images_and_labels(8)
    for _ in range(steps):
        model.train_on_batch(x, y)
    end = pruned_slices(model)
    return {name: np.abs(end[name] - start[name]).mean() for name in start}


scales_rates = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="no learning rate is scaled there"
)
SCALED_RATES = {
    name: make for name, make in OPTIMIZERS.items() if steps_follow_rate(make(), [])
} | {
    "rmsprop without momentum": lambda: keras.optimizers.RMSprop(0.01, centered=True),
    "decay that spares biases": lambda: spares_biases(keras.optimizers.AdamW(0.01)),
    "loss scale of adam": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=8.0
    ),
}


def spares_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.weight_decay = 0.5
    return optimizer


@scales_rates
def test_learning_rates_are_scaled_where_steps_follow_them():
    assert {*SCALED_RATES} >= {
        "adadelta",
        "adagrad",
        "adam",
        "adamw",
        "adamax",
        "lion",
        "nadam",
        "rmsprop without momentum",
        "accumulation",
    }
    never = ("rmsprop", "adafactor", "ftrl", "lamb", "muon", "average that overwrites")
    assert not {*SCALED_RATES} & {*never}
    constrained = keras.Variable([1.0])
    constrained.constraint = keras.constraints.NonNeg()
    assert not steps_follow_rate(keras.optimizers.Adam(), [constrained])


@scales_rates
@pytest.mark.parametrize("name", SCALED_RATES)
def test_scaled_rates_move_weights_as_scaled_steps_do(name, monkeypatch):
    x, y = images_and_labels(16)
    weights = []
    for scales_rates in (True, False):
        optimizer = SCALED_RATES[name]()
        model = compiled(
            optimizer, method=suppressing(0.7, 0.5), epochs=1000, suppress="update"
        )
        if not scales_rates:
            monkeypatch.setattr(type(model), "_scales_rates", lambda *_: False)
        model.run_eagerly = True
        model.update_masks(-1)
        for start in (0, 8, 0, 8):
            model.train_on_batch(x[start : start + 8], y[start : start + 8])
        assert "update_step" not in vars(optimizer)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


# A step small enough for the gradient to stay as it is for 50 steps.
SMALL_STEPS = {
    "adam": lambda: keras.optimizers.AdamW(1e-5, weight_decay=0.0),
    "adamw": lambda: keras.optimizers.AdamW(1e-5, weight_decay=0.01),
    "sgd": lambda: keras.optimizers.SGD(1e-5, momentum=0.9),
}


@functools.cache
def moved_freely(name):
    """How far they go when nothing is suppressed, by which way ever."""
    return moved(0.0, SMALL_STEPS[name](), "gradient")


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("suppress", ["auto", "update"])
@pytest.mark.feature('`suppress="update"`')
def test_a_suppressed_filter_moves_a_tenth_as_far_under_adam(suppress, name):
    free = moved_freely(name)
    slow = moved(0.9, SMALL_STEPS[name](), suppress)
    for part in ("first", "second", "depthwise", "slope"):
        assert slow[part] == pytest.approx(0.1 * free[part], rel=0.03), part


def test_a_suppressed_gradient_hardly_slows_adam():
    free = moved_freely("adam")
    slow = moved(0.9, SMALL_STEPS["adam"](), "gradient")
    assert slow["second"] > 0.9 * free["second"]


@pytest.mark.parametrize("suppress", ["auto", "gradient", "update"])
def test_a_suppressed_filter_moves_a_tenth_as_far_under_sgd(suppress):
    free = moved_freely("sgd")
    slow = moved(0.9, SMALL_STEPS["sgd"](), suppress)
    for part in ("first", "second", "depthwise", "slope"):
        assert slow[part] == pytest.approx(0.1 * free[part], rel=0.03), part


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        keras.optimizers.AdamW(0.01),
        keras.optimizers.ScheduleFreeAdamW(0.01),
    ],
)
@pytest.mark.parametrize("suppress", ["gradient", "update"])
@pytest.mark.parametrize(
    "options", [{"rate": 0.0}, {"rate": 0.5, "method": "asrfp", "epochs": 9}]
)
def test_without_pruning_training_is_plain_bit_for_bit(optimizer, suppress, options):
    # The second case keeps a = 1, lambda = 0, rate = 0 in its first epoch.
    found = trained(wrap(convnet(), suppress=suppress, **options), optimizer)
    for plain, wrapped in zip(plainly_trained(optimizer), found, strict=True):
        np.testing.assert_array_equal(plain, wrapped)


@functools.cache
def plainly_trained(optimizer):
    return trained(convnet(), optimizer)


def trained(model, optimizer):
    x, y = images_and_labels()
    copy = type(optimizer).from_config(optimizer.get_config())
    model.compile(copy, cross_entropy())
    model.fit(x, y, 8, epochs=1, shuffle=False, verbose=0)
    return model.get_weights()


def test_dropout_of_the_prior_mask_is_per_layer_channel_and_step():
    """Filters with lambda 0: dropped filters stand still, all others learn as usual."""
    model = compiled(
        keras.optimizers.SGD(0.1), method=suppressing(0.0, 0.5), epochs=100
    )
    model.update_masks(-1)
    x, y = images_and_labels(8)
    stood = []
    for _ in range(40):
        start = pruned_slices(model)
        model.train_on_batch(x, y)
        end = pruned_slices(model)
        still = {name: end[name] == start[name] for name in start}
        # Kernel and bias of one layer share the draw, and so does a whole slice.
        kernel = still["second"].all((0, 1, 2))
        np.testing.assert_array_equal(kernel, still["second bias"])
        stood.append(
            np.concatenate(
                [
                    still["first"].all((0, 1, 2)),
                    kernel,
                    still["depthwise"][..., 0].all((0, 1)),
                ]
            )
        )
    stood = np.array(stood)
    assert 0.35 < stood.mean() < 0.65
    assert len({tuple(row) for row in stood}) > 30  # new draws in each step
    columns = np.corrcoef(stood.T) - np.eye(stood.shape[1])
    assert np.abs(columns).max() < 0.8  # and in each layer and channel
