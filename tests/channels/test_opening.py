"""Layers made of layers are opened: pruned inside, and the same function as before."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import pgmpf_tf
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import trace
from tests.composites import Block, Linear, Mish, Mlp, images, through, transformer
from tests.graphs import deviation, outputs_of, randomize, samples


@pytest.fixture(scope="module")
def pruned():
    model = transformer()
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    return wrapped, pgmpf_tf.compact(wrapped)


def test_what_is_inside_has_a_path():
    paths = [node.path for node in trace(transformer(1)).nodes]
    for path in ("tokens/patches", "tokens/token", "block_0/mlp/expand"):
        assert path in paths
    assert len({node.name for node in trace(transformer(1)).nodes}) == len(paths)


def test_the_hidden_width_is_pruned_and_the_function_stays(pruned):
    wrapped, small = pruned
    assert small.get_layer("block_0_mlp_expand").units == 6
    x = images()
    assert np.ptp(outputs_of(wrapped, x)[0]) > 0.1
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    for batch in (1, 7):
        assert small(images(batch)).shape == (batch, 3)


def test_the_small_model_is_of_stock_layers_but_for_what_stays(pruned):
    own = {
        type(operation).__name__
        for operation in pruned[1].operations
        if not type(operation).__module__.startswith("keras.src.")
    }
    assert own == {"DropPath"}


def test_the_small_model_is_saved_loaded_and_trained(pruned, tmp_path):
    small = pruned[1]
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    x = images(8)
    assert deviation(outputs_of(small, x), outputs_of(again, x)) == 0
    before = again.get_layer("tokens_token").get_weights()[0]
    again.compile("sgd", "mse")
    again.fit(x, np.ones((8, 3)), verbose=0)
    assert (again.get_layer("tokens_token").get_weights()[0] != before).any()


def test_in_training_it_does_the_same():
    """Stochastic depth and dropout aside, which draw at random."""
    model = transformer(rate=0)
    wrapped = pgmpf_tf.wrap(model, rate=0.5, seed=0)
    wrapped.apply_masks()
    x = images()
    one, other = wrapped(x, training=True), pgmpf_tf.compact(wrapped)(x, training=True)
    np.testing.assert_allclose(one, other, atol=2e-6)


def test_dropout_and_stochastic_depth_work_in_training(pruned):
    small, x = pruned[1], images()
    drawn = [np.asarray(small(x, training=True)) for _ in range(4)]
    assert any((y != drawn[0]).any() for y in drawn)


def test_nothing_of_the_model_changes():
    model = transformer()
    everything = model._flatten_layers()

    def state():
        return [
            (dict(vars(layer)), len(layer._inbound_nodes), len(layer._outbound_nodes))
            for layer in everything
        ]

    before, name = state(), layers.Dropout(0.1).name
    trace(model)
    for (attributes, *counts), (found, *after) in zip(before, state(), strict=True):
        assert counts == after
        assert attributes.keys() == found.keys()
        assert all(attributes[key] is found[key] for key in attributes)
    number = int(name.rpartition("_")[2]) if name[-1].isdigit() else 0
    assert layers.Dropout(0.1).name == f"dropout_{number + 1}"


@pytest.mark.parametrize("coupling", ["grouped", "independent"])
@pytest.mark.parametrize("make", [Mish, lambda: Linear(6), lambda: Mlp(8, 6)])
def test_layers_of_ones_own_are_pruned(make, coupling):
    model = through(make())
    wrapped = pgmpf_tf.wrap(model, rate=0.5, coupling=coupling)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert pgmpf_tf.profile(small).uncounted == ()


def test_a_shared_layer_is_cut_once():
    block = Block(8, 6, rate=0)
    model = through(lambda x: block(block(x)))
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    assert sum(type(o).__name__ == "Embedding" for o in small.layers) == 1


def test_half_precision_stays():
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = transformer(1, rate=0)
    finally:
        keras.config.set_dtype_policy(with_policy)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    x = images()
    # float16 keeps three digits.
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 1e-2
    token = small.get_layer("tokens_token")
    assert (token.compute_dtype, token.variable_dtype) == ("float16", "float32")


class Sliced(layers.Layer):
    """What libraries do in their blocks: slices, None, own activations and norms."""

    def __init__(self, **options):
        super().__init__(**options)
        self.project = layers.EinsumDense("bnd,de->bne", (None, 8), name="project")

    def build(self, shape):
        self.project.build(shape)
        self.table = self.add_weight(shape=(9, 8), name="table")

    def normalized(self, x):
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(square + 0.1), None

    def call(self, x):
        steps = self.project(x).shape[1]
        x = x + ops.slice(self.table, (0, 0), (steps, 8))
        x, _ = self.normalized(x)
        return ops.power(x, 2), ops.zeros((1, 2))


def test_slices_constants_and_explicit_norms():
    layer = Sliced()
    model = through(lambda x: layer(x)[0])
    assert "project" not in [node.path for node in trace(model).nodes]  # only its shape
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("first").units == 4
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


@keras.saving.register_keras_serializable("tests")
def softplus_squared(x):
    return ops.softplus(x) ** 2 - 0.5


@keras.saving.register_keras_serializable("tests")
def softmax_squared(x):
    return ops.softmax(x) ** 2


@pytest.mark.parametrize(
    ("activation", "units"), [(softplus_squared, 3), (softmax_squared, 6)]
)
def test_activations_of_ones_own_are_looked_into(activation, units):
    model = through(layers.Dense(6, activation=activation, name="own"))
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("own").units == units
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


class Told(layers.Layer):
    """Tells a layer in it whether to train, whatever the network does."""

    def __init__(self, told, **options):
        super().__init__(**options)
        self.dense, self.told = layers.Dense(8, name="inside"), told
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build(shape)

    def call(self, x):
        return self.norm(self.dense(x), training=self.told)


class Following(Told):
    """Leaves it to the network."""

    def call(self, x):
        return self.norm(self.dense(x))


@pytest.mark.parametrize("told", [False, True, None])
def test_a_layer_that_is_told_whether_to_train_goes_on_as_told(told):
    model = through(Told(told, name="told"))
    pins = {pin.layer: pin.reason for pin in analyze(model).pins}
    assert f"says training={told} to 'batch" in pins["told"]
    small, x = pgmpf_tf.compact(model), samples(model)
    for training in (None, False, True):
        expected = model(x, training=training)
        assert deviation([expected], [small(x, training=training)]) < 2e-6


@pytest.mark.parametrize("told", [False, True])
def test_what_the_call_of_a_layer_says_of_training_holds_for_what_it_consists_of(told):
    """It is what a model does where nobody says whether it trains."""
    x = keras.Input((6, 3))
    y = Following(None, name="own")(layers.Dense(8, name="first")(x), training=told)
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model)
    wrapped = pgmpf_tf.wrap(model, rate=0.5)
    wrapped.apply_masks()
    small, x = pgmpf_tf.compact(wrapped), samples(model)
    assert "own" not in [layer.name for layer in small.layers]
    for training in (None, False, True):
        expected = wrapped(x, training=training)
        assert deviation([expected], [small(x, training=training)]) < 2e-6


def excluded_blocks():
    """Only the first block loses anything: its hidden width."""
    model = transformer()
    wrapped = pgmpf_tf.wrap(model, rate={"block_0/mlp/expand": 0.5, "*": 0.0}, seed=0)
    wrapped.apply_masks()
    return wrapped


def test_a_layer_in_which_all_stays_keeps_its_class():
    wrapped = excluded_blocks()
    small = pgmpf_tf.compact(wrapped)
    kinds = {layer.name: type(layer) for layer in small.layers}
    assert kinds["block_1"] is Block
    assert "block_0" not in kinds
    assert small.get_layer("expand").units == 6
    x = images()
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6
    before = np.array(wrapped.get_layer("block_1").weights[0])
    for weight in small.get_layer("block_1").weights:
        weight.assign(weight * 0)
    assert (np.asarray(wrapped.get_layer("block_1").weights[0]) == before).all()


def test_a_layer_that_shares_a_weight_with_others_is_opened():
    class Tied(layers.Layer):
        def __init__(self, dense, **options):
            super().__init__(**options)
            self.dense = dense

        def call(self, x):
            return ops.relu(self.dense(x))

    x = keras.Input((8,))
    dense = layers.Dense(8)
    y = layers.Dense(8, name="first")(dense(Tied(dense)(x)))
    model = keras.Model(x, layers.Dense(2)(y))
    small = pgmpf_tf.compact(model)
    assert not any(isinstance(layer, Tied) for layer in small.layers)
    assert len(small.weights) == len(model.weights)


def test_a_layer_that_cannot_say_what_it_returns_closes_no_other():
    """It is untouched, and could stay; but then the block around it would, too."""

    class Two(Linear):
        def call(self, x, y):
            return super().call(x), super().call(y)

        def compute_output_shape(self, x, y):
            raise NotImplementedError

    class Around(layers.Layer):
        def __init__(self):
            super().__init__(name="around")
            self.mlp, self.two = Mlp(8, 6, name="mlp"), Two(8, name="two")

        def build(self, shape):
            self.mlp.build(shape)
            self.two.build(shape)

        def call(self, x):
            a, b = self.two(x, x)
            return self.mlp(a + b)

    model = through(Around())
    wrapped = pgmpf_tf.wrap(model, rate={"around/mlp/expand": 0.5, "*": 0.0})
    wrapped.apply_masks()
    small = pgmpf_tf.compact(wrapped)
    assert small.get_layer("expand").units == 3
    x = samples(model)
    assert deviation(outputs_of(wrapped, x), outputs_of(small, x)) < 2e-6


def test_a_layer_that_cannot_be_copied_is_opened():
    class Odd(Block):
        def get_config(self):
            raise NotImplementedError

    model = through(Odd(8, 6, 0.0), 8)
    small = pgmpf_tf.compact(model)
    assert not any(isinstance(layer, Odd) for layer in small.layers)
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < 2e-6
