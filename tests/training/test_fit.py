"""`fit` of a wrapped model: every way to run it, to feed it and to watch it."""

import importlib.util

import keras
import numpy as np
import pytest

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.callbacks import PruningLog
from pgmpf_tf.training.wrapping import wrap
from tests.training.event_files import read_events
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)


def compiled(model=None, optimizer=None, wrap_options=None, **options):
    model = wrap(model or convnet(), 0.5, seed=5, **(wrap_options or {}))
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, cross_entropy(), **options)
    return model


WAYS = [pytest.param({"run_eagerly": True}, id="eager")]
if keras.backend.backend() != "torch":  # Keras has it on the other two
    several = pytest.mark.feature("`steps_per_execution`")
    WAYS.append(pytest.param({"steps_per_execution": 3}, id="several", marks=several))


def trained(optimizer, **options):
    x, y = images_and_labels()
    model = compiled(optimizer=optimizer, **options)
    model.fit(x, y, 8, epochs=3, shuffle=False, verbose=0)
    assert_pruned(model)
    return model


@pytest.fixture(scope="module")
def trained_by_default():
    return {optimizer: trained(optimizer) for optimizer in ("sgd", "adam")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_all_ways_to_run_a_step_agree(optimizer, way, trained_by_default):
    expected, found = trained_by_default[optimizer], trained(optimizer, **way)
    for group, mask in expected.masks().items():
        np.testing.assert_array_equal(found.masks()[group], mask)
    pairs = zip(found.get_weights(), expected.get_weights(), strict=True)
    for value, other in pairs:
        np.testing.assert_allclose(value, other, atol=2e-3)


def dense():
    """Two layers to prune, through which pruned filters still get gradients."""
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "tanh", name="first"),
            keras.layers.Dense(6, "tanh", name="second"),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.feature("`jit_compile`")
def test_a_compiled_step_agrees(optimizer):
    """By XLA on TensorFlow and JAX, by `torch.compile` on PyTorch."""
    x, y = images_and_labels()
    weights = []
    for jit_compile in (False, True):
        model = compiled(dense(), optimizer, jit_compile=jit_compile)
        assert model.jit_compile == jit_compile  # Keras turns off what it cannot do
        model.fit(x, y, 8, epochs=3, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for value, other in zip(*weights, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-4)
        np.testing.assert_array_equal(value == 0, other == 0)


@pytest.mark.parametrize(
    ("policy", "optimizer"),
    [
        ("mixed_float16", "sgd"),
        ("mixed_float16", "adam"),
        ("mixed_bfloat16", "sgd"),
        ("float16", "adam"),
    ],
)
@pytest.mark.feature("mixed precision")
def test_reduced_precision(policy, optimizer):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(convnet(), optimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    x, y = images_and_labels()
    model.fit(x, y, 8, epochs=2, verbose=0)
    assert_pruned(model)
    model.train_on_batch(x, y)
    assert_pruned(model)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_step_that_the_loss_scale_skips_changes_nothing():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=1e38
    )
    model = compiled(optimizer=optimizer, wrap_options={"method": "hard"})
    model.apply_masks()
    x, y = images_and_labels(8)
    before = model.get_layer("second").kernel.numpy()
    model.train_on_batch(x * 1e6, y)
    np.testing.assert_array_equal(before, model.get_layer("second").kernel.numpy())
    assert float(optimizer.dynamic_scale) < 1e38


class Sequence(keras.utils.PyDataset):
    """Four batches of the test images."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x, y = images_and_labels()
        return x[8 * index : 8 * index + 8], y[8 * index : 8 * index + 8]


def generator():
    while True:
        sequence = Sequence()
        for index in range(len(sequence)):
            yield sequence[index]


def dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(images_and_labels()).batch(8)


DATA = {
    "dataset": lambda: {"x": dataset()},
    "repeated dataset": lambda: {"x": dataset().repeat(), "steps_per_epoch": 4},
    "PyDataset": lambda: {"x": Sequence()},
    "generator": lambda: {"x": generator(), "steps_per_epoch": 4},
    "tensors": lambda: dict(
        zip(
            "xy",
            map(keras.ops.convert_to_tensor, images_and_labels()),
            strict=True,
        ),
        batch_size=8,
    ),
}


@pytest.fixture(scope="module")
def trained_on_arrays():
    x, y = images_and_labels()
    model = compiled()
    model.fit(x, y, 8, epochs=2, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.feature("`fit` on arrays, datasets, PyDatasets, generators")
def test_all_kinds_of_data_train_alike(kind, trained_on_arrays):
    other = compiled()
    other.fit(**DATA[kind](), epochs=2, shuffle=False, verbose=0)
    for value, expected in zip(
        other.get_weights(), trained_on_arrays.get_weights(), strict=True
    ):
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_weighted_samples_and_classes():
    x, y = images_and_labels()
    plain, by_class, by_sample = compiled(), compiled(), compiled()
    fit = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    plain.fit(x, y, **fit)
    weights = {0: 0.0, 1: 1.0, 2: 3.0}
    by_class.fit(x, y, class_weight=weights, **fit)
    by_sample.fit(x, y, sample_weight=np.vectorize(weights.get)(y), **fit)
    assert_pruned(by_class)
    for a, b in zip(by_class.get_weights(), by_sample.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    difference = [
        np.abs(a - b).max()
        for a, b in zip(plain.get_weights(), by_class.get_weights(), strict=True)
    ]
    assert max(difference) > 1e-3


def test_several_inputs_outputs_and_losses():
    keras.utils.set_random_seed(2)
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    hidden = keras.layers.Dense(8, "relu", name="hidden")(left)
    other = keras.layers.Dense(6, "relu", name="other")(right)
    joined = keras.layers.Concatenate()([hidden, other])
    outputs = {
        "number": keras.layers.Dense(1, name="number")(joined),
        "kind": keras.layers.Dense(2, name="kind")(joined),
    }
    plain = keras.Model({"left": left, "right": right}, outputs)
    model = wrap(plain, 0.5)
    model.compile(
        "adam",
        {"number": "mse", "kind": cross_entropy()},
        loss_weights={"number": 0.3, "kind": 1.0},
    )
    rng = np.random.default_rng(0)
    x = {"left": rng.normal(size=(16, 4)), "right": rng.normal(size=(16, 3))}
    y = {"number": rng.normal(size=(16, 1)), "kind": rng.integers(0, 2, 16)}
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert {"number_loss", "kind_loss", "pruning_rate"} <= set(history)
    for name, mask in model.masks().items():
        kernel, bias = model.get_layer(name).get_weights()
        assert not kernel[:, mask == 0].any()
        assert not bias[mask == 0].any()
        assert kernel[:, mask == 1].any()
    assert set(model.predict(x, verbose=0)) == {"number", "kind"}


class AtValidation(keras.callbacks.Callback):
    """Looks at the network when an epoch is validated and when it ends."""

    def on_train_begin(self, logs=None):
        self.seen = {"validation": [], "end": []}

    def on_test_begin(self, logs=None):
        self.seen["validation"].append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        assert {"pruning_rate", "suppression", "weight_mask"} <= set(logs)
        self.seen["end"].append(self.model.get_weights())


def test_validation_sees_the_masked_network():
    x, y = images_and_labels()
    model = compiled(wrap_options={"method": "sfp"}, metrics=["accuracy"])
    watch = AtValidation()
    history = model.fit(
        x, y, 8, epochs=2, validation_data=(x, y), verbose=0, callbacks=[watch]
    ).history
    for weights in watch.seen["validation"]:
        kernel = weights[0]
        assert (np.abs(kernel).sum((0, 1, 2)) == 0).sum() == 4
    for a, b in zip(watch.seen["validation"], watch.seen["end"], strict=True):
        for before, after in zip(a, b, strict=True):
            np.testing.assert_array_equal(before, after)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-5)
    assert accuracy == pytest.approx(history["val_accuracy"][-1])


def tensorboard(directory):
    """Keras' own callback, which needs TensorFlow on every backend."""
    if importlib.util.find_spec("tensorflow"):
        yield keras.callbacks.TensorBoard(directory)


@pytest.mark.feature("callbacks of Keras")
def test_the_callbacks_of_keras(tmp_path):
    x, y = images_and_labels()
    model = compiled()
    model.fit(
        x,
        y,
        8,
        epochs=3,
        validation_data=(x, y),
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="suppression", mode="max"
            ),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ReduceLROnPlateau(
                monitor="pruning_rate", factor=0.1, patience=1, mode="min"
            ),
            *tensorboard(tmp_path / "board"),
            PruningLog(tmp_path / "board"),
        ],
    )
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert {"pruning_rate", "suppression", "weight_mask"} <= set(header)
    assert float(model.optimizer.learning_rate) < 0.05
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert_pruned(best)
    scalars = read_scalars(tmp_path / "board")
    assert scalars["filters_alive/first"][2] == 4
    assert scalars["filters_alive/second"][2] == 3
    assert scalars["pruning/pruning_rate"][2] == 0.5
    if importlib.util.find_spec("tensorflow"):
        assert scalars["epoch_suppression"][2] == 1.0


def read_scalars(directory):
    """All scalars of the TensorBoard files below a directory, by tag and step."""
    scalars = {}
    for plugin, tag, step, number in read_events(directory):
        if plugin == "scalars":
            scalars.setdefault(tag, {})[step] = number.item()
    return scalars


def test_a_run_in_parts_follows_the_schedules_of_the_whole():
    x, y = images_and_labels()
    method = {"method": "pgmpf_published"}
    whole = compiled(wrap_options=method)
    parts = compiled(wrap_options={"epochs": 4, **method})
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    expected = whole.fit(x, y, epochs=4, **fit).history
    first = parts.fit(x, y, epochs=1, **fit).history
    assert not any((mask == 0).any() for mask in parts.masks().values())
    second = parts.fit(x, y, epochs=3, **fit).history
    for name in ("pruning_rate", "suppression", "weight_mask", "loss"):
        np.testing.assert_allclose(first[name] + second[name], expected[name], 1e-5)
    assert_pruned(parts)


def test_after_its_end_a_run_holds_its_masks():
    x, y = images_and_labels()
    model = compiled()
    model.fit(x, y, 8, epochs=2, verbose=0)
    masks = model.masks()
    history = model.fit(x, y, 8, epochs=3, verbose=0).history
    assert history["pruning_rate"] == [0.5] * 3
    assert history["suppression"] == [1.0] * 3
    for name, mask in model.masks().items():
        np.testing.assert_array_equal(mask, masks[name])
    assert_pruned(model)


def test_weights_that_become_nan_stop_the_run_and_spare_the_checkpoint(tmp_path):
    x, y = images_and_labels()
    model = compiled(wrap_options={"method": "pgmpf_published"})
    path = tmp_path / "last.weights.h5"
    saved = []

    def poison(epoch, logs):
        if epoch == 1:
            saved.append((path.stat().st_mtime_ns, model.masks()))
            kernel = model.get_layer("second").kernel
            kernel.assign(kernel * np.nan)

    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_begin=poison),
        keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
    ]
    for validation in (None, (x, y)):
        with pytest.raises(ValueError, match="score NaN or infinity"):
            model.fit(
                x,
                y,
                8,
                epochs=3,
                verbose=0,
                callbacks=callbacks,
                validation_data=validation,
            )
        written, masks = saved[-1]
        assert path.stat().st_mtime_ns == written
        for name, mask in model.masks().items():
            np.testing.assert_array_equal(mask, masks[name])
        model.load_weights(path)
        assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("epochs", [0, -1])
def test_epochs_below_one_are_refused(epochs):
    x, y = images_and_labels(8)
    with pytest.raises(ValueError, match=f"`epochs` must be an int.*={epochs}"):
        compiled().fit(x, y, epochs=epochs, verbose=0)


def test_fewer_epochs_than_one_update_takes_are_refused():
    x, y = images_and_labels(8)
    config = PruningConfig(updates=schedules.every_epochs(5))
    model = compiled(wrap_options={"method": config})
    with pytest.raises(ValueError, match=r"at least the 5 epochs.*epochs=3"):
        model.fit(x, y, epochs=3, verbose=0)
