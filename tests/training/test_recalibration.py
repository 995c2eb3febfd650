import keras
import numpy as np
import pytest

import pgmpf_tf
from tests.training.networks import assert_pruned, convnet, images_and_labels

layers = keras.layers


def statistics(model):
    """Moving means and variances of all layers, in order."""
    return [
        keras.ops.convert_to_numpy(v).copy()
        for v in model.non_trainable_variables
        if v.path.endswith(("moving_mean", "moving_variance"))
    ]


def randomize(model, seed=0):
    """Statistics that have nothing to do with any data."""
    rng = np.random.default_rng(seed)
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    return model


def two_norms():
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, "relu", name="one"),
            layers.BatchNormalization(),
            layers.Dense(5, name="two"),
            layers.BatchNormalization(epsilon=0.01),
        ]
    )


def pooled(parts):
    """Mean and variance of everything in a list of arrays."""
    everything = np.concatenate(parts)
    return everything.mean(0), everything.var(0)


def test_the_statistics_are_those_of_all_batches_pooled():
    model = randomize(two_norms())
    gamma, beta = np.array([1.0, -2, 0.5, 3]), np.array([0.0, 1, 2, -1])
    model.layers[1].gamma.assign(gamma)
    model.layers[1].beta.assign(beta)
    x = np.random.default_rng(1).normal(1.0, 3.0, (70, 3)).astype(np.float32)
    pgmpf_tf.recalibrate(model, x)

    def dense(name, values):
        layer = model.get_layer(name)
        return values @ layer.kernel.numpy() + layer.bias.numpy()

    first = [np.maximum(dense("one", x[i : i + 32]), 0) for i in (0, 32, 64)]
    second = [
        dense("two", gamma * (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-3) + beta)
        for h in first
    ]
    expected = [*pooled(first), *pooled(second)]
    for value, correct in zip(statistics(model), expected, strict=True):
        np.testing.assert_allclose(value, correct, rtol=1e-4, atol=1e-5)


def test_a_large_mean_does_not_drown_the_variance():
    model = keras.Sequential([keras.Input((1,)), layers.BatchNormalization()])
    x = np.random.default_rng(0).normal(3000.0, 1.0, (320, 1)).astype(np.float32)
    pgmpf_tf.recalibrate(model, x)
    mean, variance = statistics(model)
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, x.astype(float).var(0), rtol=1e-4)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm, self.dense = layers.BatchNormalization(), layers.Dense(2)

    def call(self, inputs):
        return self.dense(keras.ops.relu(self.norm(inputs)))


def nested():
    inner = two_norms()
    inner.layers[1].trainable = False
    inputs = keras.Input((3,))
    # In inference mode, as a part taken from elsewhere is.
    return keras.Model(inputs, layers.Dense(2)(inner(inputs, training=False)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 3)))
    return model


def channels_first():
    x = inputs = keras.Input((3,))
    x = layers.Reshape((3, 1))(x)
    x = layers.BatchNormalization(axis=1)(x)
    return keras.Model(inputs, layers.Flatten()(x))


def half_precision():
    inputs = keras.Input((3,))
    x = layers.Dense(4, dtype="mixed_float16")(inputs)
    return keras.Model(inputs, layers.BatchNormalization(dtype="mixed_float16")(x))


def trained(model, x):
    """What the model gives when each batch is normalized by its own statistics."""
    for layer in model._flatten_layers():
        layer.trainable = True
    if isinstance(model.layers[1], keras.Sequential):
        outputs = model.layers[-1](model.layers[1](x, training=True))
    else:
        outputs = model(x, training=True)
    return keras.ops.convert_to_numpy(outputs)


@pytest.mark.parametrize(
    "make", [two_norms, nested, subclassed, channels_first, half_precision]
)
@pytest.mark.feature("`recalibrate`")
def test_after_one_batch_predict_gives_what_training_gives(make):
    model = randomize(make())
    frozen = [layer.trainable for layer in model._flatten_layers()]
    x = np.random.default_rng(1).normal(size=(32, 3)).astype(np.float32)
    pgmpf_tf.recalibrate(model, x)
    assert [layer.trainable for layer in model._flatten_layers()] == frozen
    result = model.predict(x, verbose=0)
    np.testing.assert_allclose(result, trained(model, x), rtol=2e-3, atol=2e-3)


def test_a_layer_that_is_called_twice_sees_both_inputs():
    a, b = keras.Input((2,)), keras.Input((2,))
    norm = layers.BatchNormalization()
    model = keras.Model([a, b], layers.Add()([norm(a), norm(b)]))
    x, y = np.random.default_rng(0).normal([[[0.0]], [[4.0]]], 1.0, (2, 50, 2))
    pgmpf_tf.recalibrate(model, [x, y])
    for value, correct in zip(statistics(model), pooled([x, y]), strict=True):
        np.testing.assert_allclose(value, correct, rtol=1e-5)


def test_masked_steps_do_not_count():
    inputs = keras.Input((4, 2))
    outputs = layers.BatchNormalization()(layers.Masking()(inputs))
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(2.0, 1.0, (40, 4, 2)).astype(np.float32)
    x[np.random.default_rng(1).random((40, 4)) < 0.4] = 0.0
    pgmpf_tf.recalibrate(model, x)
    expected = pooled([x[(x != 0).any(-1)]])
    for value, correct in zip(statistics(model), expected, strict=True):
        np.testing.assert_allclose(value, correct, rtol=1e-5)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(32 * index, 32 * (index + 1))
        return self.x[part], self.y[part]


class Endless(Batches):
    @property
    def num_batches(self):
        return None


def generator(x, y):
    for start in (0, 32, 64):
        yield x[start : start + 32], y[start : start + 32]


def dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(32)


DATA = {
    "(x, y)": lambda x, y: (x, y),
    "(x, None, weights)": lambda x, y: (x, None, np.ones(len(x))),
    "dataset": dataset,
    "unlabeled": lambda x, y: dataset(x),
    "PyDataset": Batches,
    "generator": generator,
}


@pytest.mark.parametrize("kind", DATA)
def test_data_may_be_all_that_fit_takes(kind):
    x, y = images_and_labels(70)
    model, other = randomize(convnet()), randomize(convnet(), 1)
    pgmpf_tf.recalibrate(model, x)
    pgmpf_tf.recalibrate(other, DATA[kind](x, y))
    for value, correct in zip(statistics(other), statistics(model), strict=True):
        np.testing.assert_array_equal(value, correct)


def test_only_so_many_batches():
    x, y = images_and_labels(96)
    model, other = convnet(), convnet()
    pgmpf_tf.recalibrate(model, x[:64])
    endless = Endless(x, y)
    with pytest.raises(ValueError, match="`data` never ends"):
        pgmpf_tf.recalibrate(other, endless)
    pgmpf_tf.recalibrate(other, endless, batches=2)
    for value, correct in zip(statistics(other), statistics(model), strict=True):
        np.testing.assert_array_equal(value, correct)


def test_nothing_else_changes():
    inputs = keras.Input((3,))
    x = layers.Dropout(0.5)(layers.Dense(4)(inputs))
    x = layers.SpectralNormalization(layers.Dense(4))(x)
    x = layers.BatchNormalization(momentum=0.7)(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse", metrics=["mae"])
    data = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    model.evaluate(data, np.ones((64, 4)), verbose=0)
    kept = [*model.trainable_variables, *model.metrics_variables]
    kept += [v for v in model.non_trainable_variables if "moving" not in v.path]
    before = [keras.ops.convert_to_numpy(v).copy() for v in kept]
    pgmpf_tf.recalibrate(model, data)
    assert model.layers[-1].momentum == 0.7
    for variable, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    # The layer works as ever: it moves its statistics while it is trained, only then.
    before = statistics(model)
    model.predict(data[:9], verbose=0)
    for value, correct in zip(statistics(model), before, strict=True):
        np.testing.assert_array_equal(value, correct)
    model.fit(data, np.ones((64, 4)), verbose=0)
    assert all((a != b).any() for a, b in zip(statistics(model), before, strict=True))


def failing(x):
    yield (x,)
    yield (x,)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (failing, "the disk is gone"),
        (lambda x: x * np.nan, "statistics of layer 'norm' are NaN or infinite"),
        (lambda x: x[:0], "`data`"),
        (lambda x: dataset(x[:0]), "at least one batch"),
        (lambda x: iter(()), "`data` must be what `fit` takes"),
        (lambda x: 3, "`data` must be what `fit` takes.*data=3"),
        (lambda x: None, "`data`"),
    ],
)
def test_what_fails_leaves_the_statistics(data, message):
    model = randomize(convnet())
    before = statistics(model)
    x, _ = images_and_labels(32)
    with pytest.raises(Exception, match=message):
        pgmpf_tf.recalibrate(model, data(x))
    for value, correct in zip(statistics(model), before, strict=True):
        np.testing.assert_array_equal(value, correct)
    pgmpf_tf.recalibrate(model, x)
    assert all((a != b).any() for a, b in zip(statistics(model), before, strict=True))


def test_statistics_that_are_lost_are_found_again():
    model, other = convnet(), convnet()
    model.get_layer("norm").moving_mean.assign(np.full(8, np.nan))
    x, _ = images_and_labels(32)
    pgmpf_tf.recalibrate(model, x)
    pgmpf_tf.recalibrate(other, x)
    for value, correct in zip(statistics(model), statistics(other), strict=True):
        np.testing.assert_array_equal(value, correct)


def test_pruned_filters_stay_zero_and_compact_agrees():
    model = pgmpf_tf.wrap(convnet(), 0.5)
    model.apply_masks()
    x, _ = images_and_labels(64)
    broken = model.predict(x, verbose=0)
    pgmpf_tf.recalibrate(model, x + 1)
    assert_pruned(model)
    small = pgmpf_tf.compact(model)
    result = model.predict(x, verbose=0)
    assert np.abs(result - broken).max() > 0.01
    np.testing.assert_allclose(small.predict(x, verbose=0), result, atol=1e-6)
    # The small network has the same statistics to find.
    pgmpf_tf.recalibrate(randomize(small), x + 1)
    np.testing.assert_allclose(small.predict(x, verbose=0), result, atol=1e-5)


def test_a_pruned_channel_without_gamma_stays_zero():
    inputs = keras.Input((5, 5, 2))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.BatchNormalization(scale=False, center=False)(x)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    model = pgmpf_tf.wrap(keras.Model(inputs, outputs), 0.5)
    model.apply_masks()
    data = np.random.default_rng(0).normal(size=(40, 5, 5, 2)).astype(np.float32)
    pgmpf_tf.recalibrate(model, data)
    mean, _ = statistics(model)
    assert not mean[model.masks()["conv"] == 0].any()
    assert mean[model.masks()["conv"] == 1].all()
    assert pgmpf_tf.compact(model).get_layer("conv").filters == 3


def test_without_batchnorm_there_is_nothing_to_do():
    model = convnet(batchnorm=False)
    before = model.get_weights()
    pgmpf_tf.recalibrate(model, images_and_labels()[0])
    for value, correct in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, correct)


def test_bad_arguments_are_named():
    x, _ = images_and_labels()
    with pytest.raises(TypeError, match=r"`model` must be a Keras model.*'net'"):
        pgmpf_tf.recalibrate("net", x)
    with pytest.raises(ValueError, match="`model` must be built"):
        pgmpf_tf.recalibrate(Subclassed(), x)
    with pytest.raises(ValueError, match=r"`batches` must be an int of at least 1.*=0"):
        pgmpf_tf.recalibrate(convnet(), x, batches=0)
    with pytest.raises(TypeError, match=r"`batches` must be an int.*=2\.5"):
        pgmpf_tf.recalibrate(convnet(), x, batches=2.5)
