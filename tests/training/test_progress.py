"""When masks are updated, and with which values: a run, mostly without training."""

import keras
import numpy as np
import pytest

from pgmpf_tf import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.wrapping import wrap
from tests.training.networks import (
    assert_pruned,
    convnet,
    cross_entropy,
    images_and_labels,
    pruned_slices,
)

END = 0.4
CUBIC = PruningConfig(rate=schedules.cubic(end=END), updates=10)


def dense(width=40):
    layers = [keras.Input((4,)), keras.layers.Dense(width, name="first")]
    return keras.Sequential([*layers, keras.layers.Dense(2, name="scores")])


def walk(model, epochs, steps, known=True):
    """Goes through a run as `fit` does; which steps came after how many removals."""
    progress, count, removed = model._progress, 0, []
    progress.plan(epochs, steps if known else None)
    progress.start(None)
    for epoch in range(epochs):
        for done in range(steps):
            if progress.update_within(epoch, done, None):
                count = int((model.masks()["first"] == 0).sum())
            removed.append(count)
        progress.end_epoch(steps, None)
    return np.array(removed)


LENGTHS = [(1, 100), (30, 20), (3, 47), (100, 3), (7, 1), (1, 1)]


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
@pytest.mark.parametrize("known", [True, False])
def test_the_whole_rate_is_there_where_the_schedule_ends(epochs, steps, known):
    model = wrap(dense(), 0.5, method=CUBIC)
    removed = walk(model, epochs, steps, known)
    assert (np.diff(removed) >= 0).all()
    # The last filters go with the update before that moment, or at the next occasion.
    occasion = 1 / epochs if not known or steps < 4 else 1 / (epochs * steps)
    after = removed[int((END + occasion) * len(removed)) :]
    assert (after == 20).all()
    assert removed[0] > 0
    assert model._progress.finished


def test_between_two_updates_masks_are_those_of_the_second():
    model = wrap(dense(), 0.5, method=CUBIC)
    removed = walk(model, 1, 1000)
    rates = schedules.cubic(end=END)
    # Ten updates in 400 steps. Counted by rounding: no filter waits for a whole one.
    expected = [
        int(20 * rates((step // 40 + 1) * 40 / 1000) + 0.5) for step in range(400)
    ]
    np.testing.assert_array_equal(removed[:400], expected)


def test_the_last_filter_does_not_wait_for_the_end():
    model = wrap(dense(4), 0.5, method=CUBIC.replace(updates=100))
    removed = walk(model, 1, 1000)
    # Two of four: the second goes at three quarters of the way, not at its end.
    half, whole = (np.argmax(removed >= count) / 400 for count in (1, 2))
    assert schedules.cubic()(half) == pytest.approx(0.25, abs=0.03)
    assert schedules.cubic()(whole) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(("epochs", "steps"), [*LENGTHS, (40, 500)])
def test_updates_are_few_beside_the_steps(epochs, steps):
    model = wrap(dense(400), 0.5)
    removed = walk(model, epochs, steps)
    updates = 1 + np.count_nonzero(np.diff(removed))
    assert updates <= max(1, epochs * steps / 50)
    assert updates <= 50
    if epochs * steps >= 500:
        assert updates >= 9


@pytest.mark.parametrize("steps", [8, 20, 100])
def test_no_update_comes_shortly_before_an_epoch_s_end(steps):
    method = CUBIC.replace(updates=1000, rate=schedules.linear(end=0.9))
    removed = walk(wrap(dense(400), 0.5, method=method), 10, steps)
    moved = (1 + np.nonzero(np.diff(removed))[0]) % steps
    assert moved.min() == 0
    assert moved.max() <= steps - min(10, steps // 2)


def test_without_known_steps_an_update_looks_ahead_to_the_next_epoch():
    model = wrap(dense(), 0.5, method=CUBIC)
    removed = walk(model, 10, 50, known=False)
    first, second = removed[:50], removed[50:100]
    # 40 steps have passed when the epoch is over: the grid's next point is there.
    assert set(first) == {round(20 * schedules.cubic(end=END)(0.12))}
    assert len(set(second)) > 1  # now the steps are known


def test_a_schedule_that_begins_late_leaves_the_network_alone_before():
    late = CUBIC.replace(rate=schedules.linear(begin=0.2, end=0.4))
    removed = walk(wrap(dense(), 0.5, method=late), 5, 100)
    assert not removed[:100].any()
    assert removed[100] == 2
    assert (removed[200:] == 20).all()


def test_a_run_resumed_elsewhere_does_not_repeat_updates():
    whole, first, second = (wrap(dense(), 0.5, method=CUBIC, seed=1) for _ in "123")
    expected = walk(whole, 10, 40)
    got = []
    for epoch in range(10):
        model = first if epoch < 2 else second
        if epoch == 2:
            for ours, theirs in zip(
                second.pruning_state.variables,
                first.pruning_state.variables,
                strict=True,
            ):
                ours.assign(theirs)
        model._progress.plan(10 - epoch, 40)
        model._progress.start(None)
        for done in range(40):
            model._progress.update_within(epoch, done, None)
            got.append(int((model.masks()["first"] == 0).sum()))
        model._progress.end_epoch(40, None)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # Four batches and the end of an epoch, three times. sfp: what an update sets
        # to zero, the next step moves again; the last update is always done.
        (1, "0000 1 0000 1 0000 1"),
        (2, "0000 0 0000 1 0000 1"),
    ],
)
def test_updates_every_so_many_epochs(count, expected):
    keras.utils.set_random_seed(4)
    plain = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "tanh", name="first"),
            keras.layers.Dense(3),
        ]
    )
    config = PruningConfig.preset("sfp", updates=schedules.every_epochs(count))
    model = wrap(plain, 0.5, method=config)
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    zero = []

    def note(*_, logs=None):
        norms = model.filter_norms()["first"]
        zero.append("01"[int((norms == 0).sum() == 4)])

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=note, on_epoch_end=note)
    x, y = images_and_labels()
    model.fit(x, y, 8, epochs=3, verbose=0, callbacks=[watch])
    assert "".join(zero) == expected.replace(" ", "")


def weight_left(updates):
    """What is left of a filter that was masked first, halfway along the schedules."""
    fade = schedules.scaled(schedules.linear(), 1.0, 0.0)
    config = PruningConfig(
        rate=1.0, weight_mask=fade, suppression=schedules.linear(), updates=updates
    )
    model = wrap(convnet(), 0.5, method=config)
    before = {name: value.copy() for name, value in plain_slices(model).items()}
    model._progress.plan(1, 1000)
    model._progress.start(None)
    for done in range(500):
        model._progress.update_within(0, done, None)
    left = pruned_slices(model)
    mask = {group: mask == 0 for group, mask in model.masks().items()}
    return {
        name: (left[name] / before[name][..., mask[name]])
        for name in ("first", "second")
    }


def plain_slices(model):
    return {name: model.get_layer(name).kernel.numpy() for name in ("first", "second")}


@pytest.mark.parametrize("updates", [10, 20, 50])
def test_the_weight_mask_does_not_compound_with_updates_every_few_steps(updates):
    for ratio in weight_left(updates).values():
        np.testing.assert_allclose(ratio, 0.5, rtol=1e-4)


def test_an_update_that_moves_nothing_touches_nothing():
    model = wrap(convnet(), 0.5, method=CUBIC)
    model._progress.plan(1, 1000)
    model._progress.start(None)
    state = model.pruning_state
    state.steps_since.assign(7)
    weights = model.get_weights()
    count = int((state.mask.numpy() == 0).sum())
    model._pruner.update([count // 2, count - count // 2], 0.0, 1.0)
    assert int(state.steps_since) == 7
    model._pruner.update([4, 3], 0.0, 1.0)
    assert int(state.steps_since) == 0
    moved = [(a != b).any() for a, b in zip(weights, model.get_weights(), strict=True)]
    assert any(moved)


def test_a_schedule_of_tfmot_is_a_rate():
    sparsity = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    schedule = sparsity.PolynomialDecay(0.1, 0.5, begin_step=4, end_step=12)
    model = wrap(convnet(), schedule, method=PruningConfig(updates=8))
    x, y = images_and_labels()
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            model.pruning_values()["pruning_rate"]
        )
    )
    for part in range(2):
        # A new optimizer counts its steps from 0; the run goes on.
        model.compile("sgd", cross_entropy())
        epochs = {"initial_epoch": 2 * part, "epochs": 2 * part + 2}
        if not part:
            model._progress.total = 4
            model._settings.__dict__["epochs"] = 4
        model.fit(x, y, 8, verbose=0, callbacks=[watch], **epochs)
    expected = [0.0] * 4 + [float(schedule(step)[1]) for step in range(4, 16)]
    for last in (7, 11):  # no update comes before the last step of an epoch
        expected[last] = expected[last - 1]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    assert_pruned(model)


def test_masks_move_in_mid_epoch_on_every_backend():
    model = wrap(convnet(), 0.5, method=CUBIC.replace(updates=5))
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    kept = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: kept.append(model.masks()["first"])
    )
    x, y = images_and_labels(80)
    model.fit(x, y, 4, epochs=1, verbose=0, callbacks=[watch])
    # Five updates in 8 of 20 steps, of which the last three let no filter go.
    assert [int(mask.sum()) for mask in kept[::2]] == [6, 5, *[4] * 8]
    assert_pruned(model)
