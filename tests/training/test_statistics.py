"""BatchNorm's moving averages after a change of the masks, beside their formula."""

import keras
import numpy as np
import pytest

from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import images_and_labels

STEPS, BATCH = 12, 8


def network(**options):
    """A convolution to prune, and a BatchNorm behind it."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    images = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, name="first")(images)
    x = layers.BatchNormalization(**{"name": "norm", "momentum": 0.9, **options})(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(images, layers.Dense(3, name="scores")(x))


def wrapped(model=None, rate=0.5, **options):
    """A wrapped network with weights that stand still: its statistics alone move."""
    model = wrap(model or network(), rate, method="hard", epochs=9)
    model.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", **options
    )
    return model


def run(model, steps):
    x, y = images_and_labels(STEPS * BATCH)
    batches = x[: steps * BATCH], y[: steps * BATCH]
    model.fit(*batches, BATCH, epochs=1, shuffle=False, verbose=0)


def averages(model):
    layer = model.get_layer("norm")
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


def of_batches(model, steps, *, first=0):
    """Mean and variance of what arrives at the layer, per batch and channel."""
    x, _ = images_and_labels(STEPS * BATCH)
    before = keras.Model(model.input, model.get_layer("norm").input)
    arrives = before.predict(x[: steps * BATCH], verbose=0)
    arrives = arrives.reshape(steps, -1, arrives.shape[-1])[first:]
    return arrives.mean(1), arrives.var(1)


def averaged(values, momentum=0.9, eta=31, sizes=None):
    """What remains of batches, each with its weight or the layer's own."""
    expected = values[0]
    sizes = sizes or [1] * len(values)
    for k, value in enumerate(values[1:], start=2):
        weight = (eta + 1) / (k + eta) * sizes[k - 1] / np.mean(sizes[:k])
        weight = max(min(weight, 1), 1 - momentum)
        expected = expected + (value - expected) * weight
    return expected


# However a step is run: after 12 steps the average holds what each has done.
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (1, {}),
        (2, {}),
        (12, {}),
        (12, {"run_eagerly": True}),
        (12, {"jit_compile": True}),
    ],
)
def test_averages_start_anew_when_masks_change(steps, options):
    model = wrapped(**options)
    run(model, steps)
    for average, values in zip(averages(model), of_batches(model, steps), strict=True):
        np.testing.assert_allclose(average, averaged(values), atol=1e-5)


def test_where_an_image_has_one_position_more_batches_count():
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((6, 6, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(8, name="first"),
        keras.layers.BatchNormalization(name="norm", momentum=0.9),
        keras.layers.Dense(3, name="scores"),
    ]
    model = wrapped(keras.Sequential(layers))
    run(model, 12)
    for average, values in zip(averages(model), of_batches(model, 12), strict=True):
        np.testing.assert_allclose(average, averaged(values, eta=7), atol=1e-5)


def test_a_last_batch_of_one_image_counts_for_little():
    model = wrapped()
    model._progress.plan(9, 3)
    model._progress.start(None)
    model._progress.update_within(0, 0, None)
    x, y = images_and_labels(3 * BATCH)
    sizes = [BATCH, BATCH, 1]
    values = []
    before = keras.Model(model.input, model.get_layer("norm").input)
    for place, size in enumerate(sizes):
        part = slice(place * BATCH, place * BATCH + size)
        model.train_on_batch(x[part], y[part])
        arrives = before.predict(x[part], verbose=0).reshape(-1, 8)
        values.append((arrives.mean(0), arrives.var(0)))
    for average, seen in zip(averages(model), zip(*values, strict=True), strict=True):
        np.testing.assert_allclose(average, averaged(seen, sizes=sizes), atol=1e-5)


def test_with_a_change_in_between_they_start_once_more():
    model = wrapped(rate=0.25)
    run(model, 6)
    model._pruner.update([4], 0.0, 1.0)
    x, y = images_and_labels(STEPS * BATCH)
    for start in (6 * BATCH, 7 * BATCH):
        model.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
    for average, values in zip(
        averages(model), of_batches(model, 8, first=6), strict=True
    ):
        np.testing.assert_allclose(average, averaged(values), atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_layer_that_forgets_fast_does_so_at_its_own_pace(momentum):
    model = wrapped(network(momentum=momentum))
    run(model, 12)
    means, _ = of_batches(model, 12)
    expected = averaged(means, momentum)
    np.testing.assert_allclose(averages(model)[0], expected, atol=1e-5)


def test_an_average_is_no_other_than_the_layer_s_own_long_after():
    model = wrapped()
    model._progress.plan(9, STEPS)
    model._progress.start(None)
    model.pruning_state.steps_since.assign(300)
    plain = keras.models.clone_model(model._unwrapped())
    plain.set_weights(model.get_weights())
    plain.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    run(model, 4)
    run(plain, 4)
    for ours, theirs in zip(averages(model), averages(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_frozen_layer_is_left_alone():
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((6, 6, 2)),
        keras.layers.Conv2D(8, 3, name="first"),
        keras.layers.Conv2D(4, 3, name="second"),
        keras.layers.BatchNormalization(name="norm", trainable=False),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, name="scores"),
    ]
    plain = keras.Sequential(layers)
    rng = np.random.default_rng(0)
    plain.get_layer("norm").moving_mean.assign(rng.normal(size=4))
    before = averages(plain)
    model = wrapped(plain)
    run(model, 5)
    assert (model.masks()["first"] == 0).any()
    for ours, theirs in zip(averages(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = wrapped()
    finally:
        keras.config.set_dtype_policy("float32")
    run(model, 5)
    # Beside the same weights in full precision: half precision arrives at the layer.
    full = wrapped()
    for ours, theirs in zip(averages(model), averages_after(full, 5), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
        assert np.abs(theirs).max() > 0.2


def averages_after(model, steps):
    run(model, steps)
    return averages(model)


def test_a_layer_that_is_called_twice_in_a_step():
    keras.utils.set_random_seed(3)
    left, right = keras.Input((4,)), keras.Input((4,))
    hidden = keras.layers.Dense(6, name="first")
    norm = keras.layers.BatchNormalization(momentum=0.9, name="norm")
    branches = [keras.layers.ReLU()(norm(hidden(x))) for x in (left, right)]
    scores = keras.layers.Dense(3, name="scores")(keras.layers.Add()(branches))
    model = wrapped(keras.Model([left, right], scores))
    rng = np.random.default_rng(1)
    x = [rng.normal(shift, 1.0, (BATCH, 4)).astype("float32") for shift in (0.0, 2.0)]
    model._progress.plan(9, 1)
    model._progress.start(None)
    model.train_on_batch(x, rng.integers(0, 3, BATCH))
    means = [keras.ops.convert_to_numpy(hidden(part)).mean(0) for part in x]
    # The later call, whichever it is, weighs more, by the layer's own momentum.
    expected = [(0.9 * a + b) / 1.9 for a, b in (means, means[::-1])]
    mean = averages(model)[0]
    assert min(np.abs(mean - one).max() for one in expected) < 1e-5


@pytest.mark.parametrize("batches", [1, 12])
def test_a_variance_never_rounds_below_zero(batches):
    plain = network(momentum=0.999)
    norm = plain.get_layer("norm")
    norm.moving_variance.assign(np.full(8, 1e8))
    kernel = plain.get_layer("first").kernel
    kernel.assign(kernel * 1e-4)
    model = wrapped(plain)
    run(model, batches)
    assert (averages(model)[1] >= 0).all()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("kernels_only", [True, False])
def test_statistics_follow_the_scale_of_the_weights(scale, kernels_only):
    plain = network(scale=scale)
    norm = plain.get_layer("norm")
    rng = np.random.default_rng(0)
    norm.moving_mean.assign(rng.normal(size=8))
    norm.moving_variance.assign(rng.uniform(1.0, 2.0, 8))
    mean, variance = averages(plain)
    model = wrap(plain, 0.5, method=PruningConfig.preset("hard"))
    model._pruner.update([4], 0.5, 0.0, kernels_only=kernels_only)
    factor = np.where(model.masks()["first"] == 1, 1.0, 0.5)
    np.testing.assert_allclose(averages(model)[0], mean * factor, rtol=1e-6)
    np.testing.assert_allclose(averages(model)[1], variance * factor**2, rtol=1e-6)


def test_half_precision_and_batch_renormalization_are_left_alone():
    plain = network(renorm=True, momentum=0.9)
    model, other = wrapped(plain), network(renorm=True, momentum=0.9)
    model._progress.plan(9, STEPS)
    model._progress.start(None)
    other.set_weights(model.get_weights())
    other.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    run(model, 4)
    run(other, 4)
    for ours, theirs in zip(averages(model), averages(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    keras.config.set_dtype_policy("float16")
    try:
        half = network()
    finally:
        keras.config.set_dtype_policy("float32")
    assert wrap(half, 0.5)._pruner.normalizations == ()
