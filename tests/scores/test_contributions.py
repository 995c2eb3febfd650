"""The criterion that asks how filters contribute to the loss on data."""

import keras
import numpy as np
import pytest

from pgmpf_tf import Budget, compact, criteria, profile
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.scores.contributions import measure
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

layers = keras.layers


def scores(model, data, loss, **options):
    """The scores of all units, by group."""
    groups = analyze(model).groups
    found = criteria.Taylor(data, loss, **options).scores(groups, (model,))
    return {group.name: values for group, values in zip(groups, found, strict=True)}


class Batches(keras.utils.PyDataset):
    """Arrays in batches of so many samples."""

    def __init__(self, size, *arrays):
        super().__init__()
        self.size, self.arrays = size, arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index):
        part = slice(self.size * index, self.size * (index + 1))
        return tuple(array[part] for array in self.arrays)


def perceptron():
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, "relu", name="first", bias_initializer="normal"),
            layers.Dense(2, name="last"),
        ]
    )


def test_scores_of_a_perceptron_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    model = perceptron()
    w, b, v, c = (value.astype(float) for value in model.get_weights())
    products = []
    for part in (slice(0, 32), slice(32, 40)):
        hidden = x[part] @ w + b
        error = np.maximum(hidden, 0) @ v + c - y[part]
        # The loss is the mean of error^2 over the batch and the two outputs.
        gradient = x[part].T @ ((2 * error / error.size) @ v.T * (hidden > 0))
        products.append((gradient * w).sum(0))
    expected = np.mean(np.square(products), axis=0)
    found = scores(model, (x.astype("f4"), y.astype("f4")), "mse")
    np.testing.assert_allclose(found["first"], expected, rtol=1e-4)


@pytest.mark.feature("`criteria.Taylor` on data")
def test_a_filter_contributes_what_the_loss_changes_by_when_it_is_scaled():
    model = convnet(dtype="float64")
    model.get_layer("norm").moving_variance.assign(np.arange(1.0, 9.0))
    x, y = images_and_labels(16)
    kernel = model.get_layer("second").kernel
    weights, step, tolerance = kernel.numpy(), 1e-4, {"rtol": 1e-4, "atol": 1e-7}
    if keras.backend.backend() != "tensorflow":
        # The loss is in single precision, whatever it is asked for.
        step, tolerance = 3e-2, {"rtol": 2e-2, "atol": 2e-4}
    loss = keras.losses.SparseCategoricalCrossentropy(True, dtype="float64")

    def loss_at(filter_, scale):
        factor = np.ones(6)
        factor[filter_] = scale
        kernel.assign(weights * factor)
        values = [float(loss(y[i : i + 8], model(x[i : i + 8]))) for i in (0, 8)]
        kernel.assign(weights)
        return np.array(values)

    slopes = [
        (loss_at(j, 1 + step) - loss_at(j, 1 - step)) / (2 * step) for j in range(6)
    ]
    batches = Batches(8, x, y)
    group = next(g for g in analyze(model).groups if g.name == "second")
    member = next(m for m in group.members if m.variable is kernel)
    (found,) = measure([model], [member], batches, loss)
    assert found.shape == (6, 2)
    np.testing.assert_allclose(found, slopes, **tolerance)


def test_filters_of_one_unit_are_combined_and_normalized():
    model, data = convnet(), images_and_labels()
    total = scores(model, data, cross_entropy())["second"]
    highest = scores(model, data, cross_entropy(), combine="max")["second"]
    assert (highest < total).all()
    assert (2 * highest >= total).all()
    even = scores(model, data, cross_entropy(), normalize=True)
    assert even["first"].mean() == pytest.approx(1.0)
    assert even["second"].mean() == pytest.approx(2.0)


class Counted(keras.utils.PyDataset):
    """Data that knows how often it was gone through."""

    passes = 0

    def __len__(self):
        return 2

    def on_epoch_begin(self):
        self.passes += 1

    def __getitem__(self, index):
        x, y = images_and_labels()
        return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16]


def test_fit_scores_anew_at_each_update_and_leaves_no_trace():
    data = Counted()
    taylor, method = criteria.Taylor(data), "pgmpf_published"
    model = wrap(convnet(), 0.5, method=method, criterion=taylor)
    assert data.passes == 1  # for a look at the first batch
    data.passes = 0
    model.compile(keras.optimizers.SGD(0.05), cross_entropy(), metrics=["accuracy"])
    x, y = images_and_labels()
    history = model.fit(x, y, 8, epochs=3, verbose=0, validation_data=(x, y))
    assert data.passes == 4  # before the first epoch, and after each of three
    assert history.history["pruning_rate"][-1] == 0.5
    assert_pruned(model)
    watched = [*model.metrics_variables, *model.non_trainable_variables]
    before = [keras.ops.convert_to_numpy(v).copy() for v in watched]
    model.apply_masks()
    assert data.passes == 5
    for variable, value in zip(watched, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_the_least_contribution_goes():
    plain, (x, y) = convnet(), images_and_labels()
    model = wrap(plain, 0.5, criterion=criteria.Taylor((x, y), cross_entropy()))
    found = scores(plain, (x, y), cross_entropy())
    model.apply_masks()
    for name, mask in model.masks().items():
        lowest = np.argsort(found[name])[: len(mask) // 2]
        assert set(np.flatnonzero(mask == 0)) == set(lowest)
    assert_pruned(model)


def test_the_loss_is_the_given_one_or_a_compiled_one():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, 3)), 5 * rng.normal(size=(32, 2))
    expected = {
        name: scores(perceptron(), data, name)["first"] for name in ("mse", "mae")
    }

    def found(model):
        return model._pruner.scores()[0]

    plain = perceptron()
    # A penalty is part of the training loss, and none of the task's.
    plain.get_layer("first").kernel.regularizer = keras.regularizers.L2(1.0)
    plain.compile("sgd", "mae")
    model = wrap(plain, 0.5, criterion=criteria.Taylor(data))
    np.testing.assert_allclose(found(model), expected["mae"], rtol=1e-5)
    model.compile("sgd", "mse")
    np.testing.assert_allclose(found(model), expected["mse"], rtol=1e-5)
    model = wrap(plain, 0.5, criterion=criteria.Taylor(data, "mse"))
    np.testing.assert_allclose(found(model), expected["mse"], rtol=1e-5)


def test_several_outputs_have_their_losses_and_weights():
    def make():
        inputs = keras.Input((3,))
        x = layers.Dense(6, "relu", name="first")(inputs)
        heads = {name: layers.Dense(2, name=name)(x) for name in "ab"}
        return keras.Model(inputs, heads)

    keras.utils.set_random_seed(0)
    plain = make()
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 3)), {n: rng.normal(size=(20, 2)) for n in "ab"}
    plain.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 0.0, "b": 2.0})
    weighted = scores(plain, data, None)["first"]
    head = keras.Model(plain.input, plain.output["b"])
    alone = scores(head, (data[0], data[1]["b"]), "mae")["first"]
    np.testing.assert_allclose(weighted, 4 * alone, rtol=1e-4)


def test_a_loaded_model_asks_for_its_data(tmp_path):
    data = images_and_labels()
    model = wrap(
        convnet(), 0.5, criterion=criteria.Taylor(data, cross_entropy()), epochs=2
    )
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.criterion_data is None
    with pytest.raises(ValueError, match=r"needs `data`.*`model\.criterion_data`"):
        loaded.fit(*data, verbose=0)
    with pytest.raises(ValueError, match="needs `data` with targets"):
        loaded.criterion_data = data[0]
    loaded.criterion_data = data
    assert loaded.criterion_data is data
    loaded.apply_masks()
    model.apply_masks()
    for name, mask in model.masks().items():
        np.testing.assert_array_equal(loaded.masks()[name], mask)


def test_a_budget_whose_units_compete():
    plain = convnet()
    plain.compile("sgd", cross_entropy())
    data = images_and_labels()
    budget = Budget(macs=0.4, strategy="global")
    model = wrap(plain, budget, criterion=criteria.Taylor(data))
    model.apply_masks()
    assert 0.3 < profile(compact(model)).macs / profile(plain).macs <= 0.6


def test_half_precision():
    model = convnet(dtype="mixed_float16")
    found = scores(model, images_and_labels(), cross_entropy())
    expected = scores(convnet(), images_and_labels(), cross_entropy())
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=0.1, atol=1e-5)


def test_what_is_missing_is_named():
    x, y = images_and_labels()
    with pytest.raises(ValueError, match="`data` is gone through several times"):
        criteria.Taylor(iter([(x, y)]))
    with pytest.raises(ValueError, match=r"needs `data`.*criteria\.Taylor\(data\)"):
        wrap(convnet(), criterion="taylor")
    with pytest.raises(ValueError, match="needs a loss: compile"):
        wrap(convnet(), criterion=criteria.Taylor((x, y))).apply_masks()
    with pytest.raises(ValueError, match="needs a loss: compile"):
        wrap(convnet(), Budget(macs=0.5), criterion=criteria.Taylor((x, y)))
    with pytest.raises(ValueError, match="`criterion_data` is for a criterion that"):
        wrap(convnet()).criterion_data = (x, y)
    lost = wrap(convnet(), criterion=criteria.Taylor((x * np.nan, y), cross_entropy()))
    with pytest.raises(ValueError, match="score NaN or infinity"):
        lost.apply_masks()
    assert all(mask.all() for mask in lost.masks().values())


X, Y = images_and_labels(8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "needs `data` with targets"),
        (Batches(4, X), "needs `data` with targets"),
        ((X[:0], Y[:0]), "`data` must hold at least one batch"),
        ((X[..., :1], Y), r"must fit .*\(None, 6, 6, 2\).*x \(8, 6, 6, 1\)"),
        ((X[:, 0], Y), r"must fit .*x \(8, 6, 2\) and y \(8,\)"),
        ((X, np.ones((8, 2, 3))), r"must fit .*y \(8, 2, 3\)"),
        (({"a": X, "b": X}, Y), "must fit"),
        (object(), "`data` must be what `fit` takes"),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_data_that_do_not_fit_are_refused_by_wrap(data, message, compiled):
    model = convnet()
    weights = model.get_weights()
    if compiled:
        model.compile("sgd", cross_entropy())
    taylor = criteria.Taylor(data, None if compiled else cross_entropy())
    with pytest.raises(ValueError, match=message):
        wrap(model, criterion=taylor)
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)
