"""What masking adds to a training step does not grow with the network."""

from collections import Counter

import keras
import numpy as np
import pytest

from pgmpf_tf.training.wrapping import wrap

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts the operations of graphs", allow_module_level=True)
tf = pytest.importorskip("tensorflow")


def dense(depth):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(7, "relu", name=f"hidden{i}") for i in range(depth)]
    return keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(2)])


def operations(model, optimizer):
    """The operations of the traced step, by type."""
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    data = (tf.ones((3, 5)), tf.ones((3, 2)))
    model.train_on_batch(*data)  # builds losses and metrics
    graph = tf.function(model.train_step).get_concrete_function(data).graph
    return Counter(operation.type for operation in graph.get_operations())


def added(depth, optimizer="sgd", **options):
    plain = operations(dense(depth), optimizer)
    options = {"method": "pgmpf_published", "epochs": 9, **options}
    wrapped = operations(wrap(dense(depth), **options), optimizer)
    return wrapped - plain


def test_a_fixed_number_of_operations_and_one_product_per_variable():
    few, many = added(2), added(9)
    assert many - few == Counter({"Mul": 2 * (9 - 2)})  # kernels and biases
    assert not few - many
    assert few["RightShift"] == 2 * 3 + 1  # two mixings, and what float32 can hold
    assert few["SplitV"] == 1
    assert few.total() - few["Const"] < 60


def test_without_dropout_nothing_is_drawn():
    assert not added(2, dropout=0.0)["RightShift"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_never_masked_costs_nothing(optimizer):
    assert not added(3, optimizer, rate=0.0)
    assert added(6, optimizer, rate={"hidden2": 0.5}) == added(1, optimizer)


def test_masks_are_kept_per_channel():
    model = wrap(dense(3), 0.5)
    numbers = sum(np.prod(v.shape) for v in model.pruning_state.variables)
    assert numbers <= 3 * 7 + 10  # and one entry for slices without a unit, and scalars


@pytest.mark.parametrize(
    ("train", "metrics"),
    [("fit", None), ("fit", ["accuracy", "mae"]), ("train_on_batch", None)],
)
def test_a_step_is_traced_once(train, metrics):
    traces = []

    def loss(y, y_pred):
        traces.append(y)
        return keras.losses.mean_squared_error(y, y_pred)

    model = wrap(dense(2), 0.5)
    model.compile("adam", loss, metrics=metrics)
    getattr(model, train)(np.ones((3, 5)), np.ones((3, 2)))
    assert len(traces) == 1
    assert {"loss", *(metrics or ())} <= {*model.get_metrics_result()}
    optimizer = model.optimizer
    assert all(v.path.startswith(f"{optimizer.name}/") for v in optimizer.variables)
