"""A dense network as the teacher of the one that is pruned."""

import keras
import numpy as np
import pytest

from pgmpf_tf.training.distillation import Distillation
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
)

layers = keras.layers
# The first epoch changes nothing.
KEPT = {"rate": {"first": 0.5}, "epochs": 9, "method": "pgmpf_published"}


def network(seed, activation=None, outputs=3, names="a", dtype=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    x = layers.Dense(6, "relu", name="first", dtype=dtype)(inputs)
    heads = [layers.Dense(outputs, activation, name=n, dtype=dtype)(x) for n in names]
    if len(heads) > 1:
        return keras.Model(inputs, dict(zip(names, heads, strict=True)))
    return keras.Model(inputs, heads[0])


def numbers(tensors):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


def data(count=24):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    return x, rng.integers(0, 3, count)


def still(model, loss, **options):
    """Compiled so that training changes no weight."""
    model.compile(keras.optimizers.SGD(0.0), loss, **options)
    return model


def train(model, x, y, **options):
    history = model.fit(x, y, 8, verbose=0, shuffle=False, **options).history
    return history["loss"][0], history["distillation_loss"][0]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def task(z, y):
    return -np.log(softmax(z)[np.arange(len(y)), y])


def divergences(teacher, student, temperature):
    """T^2 KL(teacher || student) for each sample, of logits."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_loss_of_classes_is_hintons(activation):
    x, y = data()
    # Logits beyond single precision's reach of softmax would be lost in it.
    z, taught = numbers(network(1)(x)), numbers(network(2)(x))
    loss = "sparse_categorical_crossentropy" if activation else SPARSE(from_logits=True)
    model = wrap(
        network(1, activation),
        **KEPT,
        distillation=Distillation(network(2, activation), 0.3, temperature=2.0),
    )
    total, distance = train(still(model, loss), x, y)
    expected = divergences(taught, z, 2.0).mean()
    assert expected > 0.01
    assert distance == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(0.7 * task(z, y).mean() + 0.3 * expected, rel=1e-4)


def test_samples_have_their_weights():
    x, y = data()
    weights = np.linspace(0.0, 2.0, len(x))
    z, taught = numbers(network(1)(x)), numbers(network(2)(x))
    model = wrap(network(1), **KEPT, distillation=Distillation(network(2), 0.5))
    total, distance = train(
        still(model, SPARSE(from_logits=True)), x, y, sample_weight=weights
    )
    expected = (weights * divergences(taught, z, 4.0)).mean()
    assert distance == pytest.approx(expected, rel=1e-4)
    own = (weights * task(z, y)).mean()
    assert total == pytest.approx((own + expected) / 2, rel=1e-4)


def test_the_loss_of_other_outputs_is_the_squared_error():
    x, _ = data()
    y = np.ones((len(x), 3))
    z, taught = numbers(network(1)(x)), numbers(network(2)(x))
    model = wrap(network(1), **KEPT, distillation=Distillation(network(2), 0.25))
    total, distance = train(still(model, "mae"), x, y)
    expected = np.square(taught - z).mean()
    assert distance == pytest.approx(expected, rel=1e-4)
    own = np.abs(z - y).mean()
    assert total == pytest.approx(0.75 * own + 0.25 * expected, rel=1e-4)


def test_each_output_is_taught_by_its_loss_and_weight():
    x, y = data()
    targets = {"a": y, "b": np.ones((len(x), 3))}
    z, taught = network(1, names="ab")(x), network(2, names="ab")(x)
    model = wrap(
        network(1, names="ab"),
        **KEPT,
        distillation=Distillation(network(2, names="ab")),
    )
    losses = {"a": SPARSE(from_logits=True), "b": "mse"}
    still(model, losses, loss_weights={"a": 2.0, "b": 0.5})
    total, distance = train(model, x, targets)
    z, taught = numbers(z), numbers(taught)
    expected = 2.0 * divergences(taught["a"], z["a"], 4.0).mean()
    expected += 0.5 * np.square(taught["b"] - z["b"]).mean()
    assert distance == pytest.approx(expected, rel=1e-4)
    own = 2.0 * task(z["a"], y).mean() + 0.5 * np.square(z["b"] - 1).mean()
    assert total == pytest.approx((own + expected) / 2, rel=1e-4)


def test_penalties_keep_their_strength():
    x, y = data()

    def penalized(model):
        model.get_layer("first").kernel.regularizer = keras.regularizers.L2(0.1)
        return model

    losses = []
    for change in (lambda model: model, penalized):
        model = wrap(
            change(network(1)), **KEPT, distillation=Distillation(network(2), 0.9)
        )
        losses.append(train(still(model, SPARSE(from_logits=True)), x, y)[0])
    penalty = 0.1 * np.square(network(1).get_layer("first").kernel).sum()
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-4)


def compiled(optimizer=None, **options):
    model = wrap(convnet(), 0.5, seed=5, **options)
    model.compile(
        optimizer or keras.optimizers.SGD(0.05), cross_entropy(), metrics=["accuracy"]
    )
    return model


def taught_by():
    teacher = convnet("teacher")
    keras.utils.set_random_seed(7)
    for variable in teacher.trainable_variables:
        variable.assign(variable + 0.3 * keras.random.normal(variable.shape))
    return teacher


def fit(model, epochs=2):
    x, y = images_and_labels()
    return model.fit(
        x, y, 8, epochs=epochs, shuffle=False, verbose=0, validation_data=(x, y)
    ).history


def test_without_distillation_training_is_what_it_was():
    plain, model = compiled(), compiled(distillation=Distillation(taught_by(), 0))
    assert fit(plain) == fit(model)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.feature("`Distillation`")
def test_the_model_draws_near_its_teacher_which_stays():
    teacher = taught_by()
    before = teacher.get_weights()
    model = compiled(
        keras.optimizers.Adam(0.02), distillation=Distillation(teacher, 1.0)
    )
    history = fit(model, 6)
    assert history["distillation_loss"][4] < 0.5 * history["distillation_loss"][0]
    assert_pruned(model)
    for value, old in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    # Validation is on the task alone.
    x, y = images_and_labels()
    own = cross_entropy()(y, model.predict(x, verbose=0))
    assert history["val_loss"][-1] == pytest.approx(float(own), rel=1e-3)
    assert "val_distillation_loss" not in history
    assert "distillation_loss" not in model.evaluate(x, y, verbose=0, return_dict=True)


def test_without_labels_the_teacher_is_all_there_is():
    x, _ = data()
    z, taught = numbers(network(1)(x)), numbers(network(2)(x))
    model = wrap(network(1), **KEPT, distillation=Distillation(network(2), 0.3))
    loss, distance = train(still(model, None), x, None)
    np.testing.assert_allclose(loss, np.square(z - taught).mean(), rtol=1e-5)
    np.testing.assert_allclose(distance, loss, rtol=1e-5)

    model.compile("adam")
    model.fit(x, epochs=9, verbose=0)
    gone = model.masks()["first"] == 0
    assert gone.sum() == 3
    assert not numbers(model.get_layer("first").kernel)[:, gone].any()


def test_one_output_may_be_in_a_list_or_not():
    x, _ = data()
    alone = network(1)
    listed = keras.Model(alone.inputs, [alone.output])
    teacher = network(2)
    distances = [
        train(
            still(wrap(model, **KEPT, distillation=Distillation(teacher, 1.0)), None),
            x,
            None,
        )[1]
        for model in (listed, network(1))
    ]
    np.testing.assert_allclose(*distances, rtol=1e-6)


def test_another_teacher_is_heard():
    model = wrap(network(1), **KEPT, distillation=Distillation(network(2), 1.0))
    still(model, SPARSE(from_logits=True))
    x, y = data()
    first = train(model, x, y)
    model.teacher = network(3)
    assert train(model, x, y)[0] != pytest.approx(first[0], rel=0.01)


def test_the_teacher_is_no_part_of_the_model(tmp_path):
    alone, model = compiled(), compiled(distillation=Distillation(taught_by()))
    assert [w.path for w in model.weights] == [w.path for w in alone.weights]
    assert model.count_params() == alone.count_params()
    assert len(model._flatten_layers()) == len(alone._flatten_layers())
    assert model.metrics_names == alone.metrics_names
    fit(model, 1)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    fit(alone, 1)
    alone.save(tmp_path / "alone.keras")
    assert abs(path.stat().st_size - (tmp_path / "alone.keras").stat().st_size) < 500
    x, y = images_and_labels()
    assert loaded.evaluate(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"wrapped with a teacher.*`model\.teacher`"):
        fit(loaded)
    with pytest.raises(ValueError, match=r"wrapped with a teacher.*`model\.teacher`"):
        loaded.train_on_batch(x, y)
    loaded.teacher = model.teacher
    assert loaded.teacher is model.teacher
    assert fit(loaded) == fit(model)


def test_a_missing_teacher_is_missed_before_anything_happens():
    config = compiled(distillation=Distillation(taught_by())).get_config()
    model = PrunedModel.from_config(config)
    model.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match=r"`model\.teacher`"):
        fit(model)
    assert int(model.pruning_state.epoch) == -1


def test_half_precision():
    x, y = data()
    losses = []
    for dtype in (None, "mixed_float16"):
        model = wrap(
            network(1, dtype=dtype),
            **KEPT,
            distillation=Distillation(network(2, dtype=dtype)),
        )
        losses.append(train(still(model, SPARSE(from_logits=True)), x, y))
    np.testing.assert_allclose(*losses, rtol=5e-3)


class OwnLoss(keras.Model):
    """As classes were written before `compute_loss` knew of training."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return keras.ops.mean(keras.ops.square(y_pred - 1.0))


def test_a_class_with_a_loss_of_its_own():
    x, y = data()
    plain = network(1)
    own = OwnLoss(plain.input, plain.output)
    z, taught = numbers(network(1)(x)), numbers(network(2)(x))
    model = wrap(own, **KEPT, distillation=Distillation(network(2), 0.5))
    total, distance = train(still(model, None), x, y)
    assert distance == pytest.approx(np.square(taught - z).mean(), rel=1e-4)
    expected = np.square(z - 1).mean() + np.square(taught - z).mean()
    assert total == pytest.approx(expected / 2, rel=1e-4)
    with pytest.raises(ValueError, match="`compute_loss` needs `x`"):
        model.compute_loss(y=y, y_pred=z)


def test_a_teacher_of_the_model_s_own_kind_stays_with_it():
    plain = network(1)
    own = OwnLoss(plain.input, plain.output)
    own.teacher = network(2)
    model = wrap(own, 0.5)
    assert model.teacher is own.teacher
    assert train_only(model) > 0


def train_only(model):
    x, y = data()
    return still(model, None).fit(x, y, verbose=0).history["loss"][0]


def test_teachers_that_do_not_fit_are_refused():
    plain = network(1)
    with pytest.raises(ValueError, match="`teacher` must not share weights"):
        wrap(plain, distillation=Distillation(plain))
    with pytest.raises(ValueError, match=r"same structure.*\(None, 3\).*\(None, 5\)"):
        wrap(plain, distillation=Distillation(network(2, outputs=5)))
    with pytest.raises(ValueError, match="same structure"):
        wrap(plain, distillation=Distillation(network(2, names="ab")))
    with pytest.raises(ValueError, match="`teacher` must take the inputs of"):
        wrap(convnet(), distillation=Distillation(plain))
    with pytest.raises(ValueError, match="wrapped without a teacher"):
        wrap(plain).teacher = network(2)
