"""JAX: the masks are state that the jitted step gets, and gives back."""

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import convnet, cross_entropy, images_and_labels

if keras.backend.backend() != "jax":
    pytest.skip("tests the step of JAX", allow_module_level=True)
jax = pytest.importorskip("jax")

EPOCHS = 3


class Traced(keras.Model):
    """Counts how often its training step is traced."""

    traces = 0

    def train_step(self, state, data):
        self.traces += 1
        return super().train_step(state, data)


def dense(cls=keras.Model):
    """Smooth: through pruned filters the gradient still flows."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(8, "tanh", name="first")(x)
    x = keras.layers.Dense(6, "tanh", name="second")(x)
    return cls(inputs, keras.layers.Dense(3)(x))


def zero_columns(model):
    return {
        name: np.flatnonzero(~model.get_layer(name).kernel.numpy().any(0)).tolist()
        for name in ("first", "second")
    }


def masked_columns(model):
    return {name: np.flatnonzero(m == 0).tolist() for name, m in model.masks().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_compiled_step_sees_masks_that_have_moved_since(optimizer):
    """Fails if the masks are constants of the step: those of its first call."""
    model = wrap(dense(Traced), 0.5, epochs=9)
    model.compile(optimizer, cross_entropy())
    x, y = images_and_labels(8)
    model.train_on_batch(x, y)
    # Donated buffers come back with another layout of the same: once more is allowed.
    model.train_on_batch(x, y)
    traces = model.traces
    assert traces <= 2
    assert zero_columns(model) == {"first": [], "second": []}
    model.apply_masks()
    assert masked_columns(model) == zero_columns(model)
    for _ in range(3):
        model.train_on_batch(x, y)
        assert masked_columns(model) == zero_columns(model)
    assert model.traces == traces
    assert len(zero_columns(model)["first"]) == 4


def test_fit_traces_once_while_masks_move_between_steps_and_epochs():
    model = wrap(dense(Traced), 0.5, method="asrfp")
    model.compile("sgd", cross_entropy())
    x, y = images_and_labels()
    seen = model.fit(x, y, 8, epochs=4, verbose=0).masks
    assert len({mask["first"].tobytes() for mask in seen}) > 1
    assert model.traces == 1


def test_masks_are_among_the_buffers_that_the_step_takes_over():
    model = wrap(dense(), 0.5, epochs=9)
    model.compile("sgd", cross_entropy())
    x, y = images_and_labels(8)
    model.train_on_batch(x, y)
    before = model.pruning_state.mask.value
    model.train_on_batch(x, y)
    assert before.is_deleted()
    assert not model.pruning_state.mask.value.is_deleted()


def test_a_step_asks_nothing_of_the_host():
    model = wrap(dense(), 0.5, epochs=9)
    model.compile("adam", cross_entropy())
    model.optimizer.build(model.trainable_variables)
    x, y = images_and_labels(8)
    model.train_on_batch(x, y)
    state = model._get_jax_state(True, True, True, True)
    program = str(jax.make_jaxpr(model.train_step)(state, (x, y)))
    assert "callback" not in program


def by_hand(model, optimizer, masks_steps):
    """A jitted loop without `compile` and `fit`, as keras.io shows it."""
    x, y = images_and_labels()
    loss_function = cross_entropy()
    optimizer.build(model.trainable_variables)

    def loss(trainable, non_trainable, images, labels):
        outputs, non_trainable = model.stateless_call(
            trainable, non_trainable, images, training=True
        )
        return loss_function(labels, outputs), non_trainable

    @jax.jit
    def step(trainable, non_trainable, own, images, labels):
        (_, non_trainable), gradients = jax.value_and_grad(loss, has_aux=True)(
            trainable, non_trainable, images, labels
        )
        if masks_steps:
            trainable, own = model.stateless_apply_gradients(
                gradients, trainable, non_trainable, own, optimizer
            )
        else:
            gradients = model.stateless_mask_gradients(
                gradients, non_trainable, own, optimizer
            )
            trainable, own = optimizer.stateless_apply(own, gradients, trainable)
        return trainable, non_trainable, own

    lists = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )
    model.update_masks(-1, optimizer)
    for epoch in range(EPOCHS):
        state = [[v.value for v in variables] for variables in lists]
        for start in range(0, len(x), 8):
            state = step(*state, x[start : start + 8], y[start : start + 8])
        for variables, values in zip(lists, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        model.update_masks(epoch, optimizer)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


@pytest.mark.parametrize(
    ("optimizer", "masks_steps"), [("sgd", False), ("sgd", True), ("adam", True)]
)
@pytest.mark.feature("a training loop of one's own")
def test_a_loop_of_one_s_own_equals_fit(optimizer, masks_steps):
    # Its suppression is neither 0 nor 1 on the way.
    options = {"method": "pgmpf_published", "seed": 5}
    model = wrap(convnet(), 0.5, epochs=EPOCHS, **options)
    by_hand(model, OPTIMIZERS[optimizer](), masks_steps)
    other = wrap(convnet(), 0.5, **options)
    other.compile(OPTIMIZERS[optimizer](), cross_entropy())
    x, y = images_and_labels()
    other.fit(x, y, 8, epochs=EPOCHS, shuffle=False, verbose=0)
    for name, mask in model.masks().items():
        np.testing.assert_array_equal(mask, other.masks()[name])
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_masks_cannot_be_frozen_by_mistake():
    model = wrap(dense(), 0.5, epochs=9)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    gradients = [v.value for v in model.trainable_variables]
    assert len(model.mask_gradients(gradients, optimizer)) == len(gradients)
    with pytest.raises(ValueError, match="`stateless_apply_gradients`"):
        jax.jit(lambda g: model.mask_gradients(g, optimizer))(gradients)
    state = [v.value for v in model.non_trainable_variables]
    with pytest.raises(ValueError, match=r"`non_trainable_variables`.*0 values"):
        model.stateless_mask_gradients(gradients, [], [], optimizer)
    with pytest.raises(ValueError, match=r"`optimizer_variables`.*0 values"):
        model.stateless_mask_gradients(gradients, state, [], optimizer)


@keras.saving.register_keras_serializable("tests")
class OwnStep(keras.Model):
    """A step as keras.io shows it, for a class of the user's own."""

    def train_step(self, state, data):
        trainable, non_trainable, own, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        (loss, aux), gradients = jax.value_and_grad(
            self.compute_loss_and_updates, has_aux=True
        )(
            trainable,
            non_trainable,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=own,
        )
        _, _, non_trainable, metrics = aux
        trainable, own = self.optimizer.stateless_apply(own, gradients, trainable)
        return {"loss": loss}, (trainable, non_trainable, own, metrics)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.feature("a `train_step` of one's own")
def test_a_step_of_the_user_s_own_is_masked_alike(optimizer):
    x, y = images_and_labels(8)
    results = []
    for cls in (keras.Model, OwnStep):
        model = wrap(dense(cls), 0.5, seed=5)
        assert isinstance(model, cls)
        model.compile(optimizer, cross_entropy())
        model.fit(x, y, 4, epochs=3, shuffle=False, verbose=0)
        assert "apply" not in vars(model.optimizer)
        results.append(model.get_weights())
    for value, other in zip(*results, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
        np.testing.assert_array_equal(value == 0, other == 0)


def taught(teacher):
    model = wrap(
        dense(), 0.5, epochs=9, distillation=pgmpf_tf.Distillation(teacher, 1.0)
    )
    model.compile(keras.optimizers.SGD(0.0), cross_entropy())
    return model


def test_a_step_sees_another_teacher_s_weights_and_leaves_them():
    teacher = dense()
    teacher.set_weights([w + 0.1 for w in teacher.get_weights()])
    model = taught(teacher)
    x, y = images_and_labels()
    fit = {"epochs": 1, "verbose": 0}
    first = model.fit(x, y, **fit).history["distillation_loss"][0]
    before = [w * 2 for w in teacher.get_weights()]
    teacher.set_weights(before)
    second = model.fit(x, y, **fit).history["distillation_loss"][0]
    assert second > 1.5 * first
    for value, other in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, other)


def test_the_state_tree_has_the_masks_and_no_teacher():
    teacher = dense()
    teacher.set_weights([w + 0.1 for w in teacher.get_weights()])
    model, other = taught(teacher), wrap(dense(), 0.5, epochs=9)
    model.apply_masks()
    tree = model.get_state_tree()
    own = {"trainable_variables", "non_trainable_variables"}
    other.set_state_tree({name: tree[name] for name in own})
    for name, mask in other.masks().items():
        np.testing.assert_array_equal(mask, model.masks()[name])
        assert not mask.all()
    before = teacher.get_weights()
    model.set_state_tree(tree)
    for value, old in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
