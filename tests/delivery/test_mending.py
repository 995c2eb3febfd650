from types import SimpleNamespace

import keras
import numpy as np
import pytest

from pgmpf_tf.delivery import mending
from pgmpf_tf.delivery.copying import copy_of, without_last_activations
from pgmpf_tf.delivery.distance import losses
from tests.delivery.networks import classifier, images


@pytest.fixture(scope="module")
def lesson():
    """The dense network, a spoiled copy, and what the dense one gives."""
    dense = copy_of(classifier())
    spoiled = copy_of(dense)
    kernel = spoiled.get_layer("first").kernel
    kernel.assign(kernel * (np.arange(16) >= 10))
    x = images() / 255
    return dense, spoiled, x, without_last_activations(dense).predict(x, verbose=0)


def mend(lesson, folder, seconds, say=lambda text: None):
    dense, spoiled, x, y = lesson
    training, selection = (x[:120], y[:120]), (x[120:], y[120:])
    loss = losses(dense, y)
    return mending.mend(
        copy_of(spoiled), training, selection, loss, seconds, folder, say
    )


def distance(lesson, model):
    _, _, x, y = lesson
    got = without_last_activations(model).predict(x[120:], verbose=0)
    return float(np.mean(np.square(got - y[120:])) / np.var(y))


def test_the_student_comes_nearer_and_has_its_own_settings(
    lesson, tmp_path, monkeypatch
):
    monkeypatch.setattr(mending, "MOST_EPOCHS", 8)
    monkeypatch.setattr(mending, "LEARNING_RATE", 3e-3)  # few and small batches
    student, progress = mend(lesson, tmp_path, 600.0)
    assert distance(lesson, student) < 0.5 * distance(lesson, lesson[1])
    best = np.mean(progress.errors)
    assert best == pytest.approx(distance(lesson, student), rel=1e-3)
    assert student.get_config() == lesson[1].get_config()


def test_a_run_that_was_killed_goes_on_in_the_time_that_is_left(lesson, tmp_path):
    """After its first epoch, as a signal would end it."""

    def die(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mend(lesson, tmp_path, 3.0, die)
    (tmp_path / "mending.json").write_text(
        '{"seconds": 3.0, "errors": [0.5, 0.5], '
        '"history": {"loss": [1.0], "val_loss": [0.5]}}'
    )
    student, progress = mend(lesson, tmp_path, 3.0)
    assert progress.history["val_loss"] == [0.5]  # no time was left
    best = keras.models.load_model(tmp_path / "best.keras")
    for one, other in zip(student.weights, best.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_better_epoch_the_network_stays(lesson, tmp_path):
    student, _ = mend(lesson, tmp_path, 1e-6)
    assert distance(lesson, student) <= distance(lesson, lesson[1]) * 1.001


def kept(monkeypatch, tmp_path, *, before, after):
    """Whether a network takes the place of another, by errors of the same samples."""
    saved = []
    monkeypatch.setattr(mending, "_save", lambda model, path: saved.append(model))
    progress = mending.Progress(errors=list(before))
    errors = iter([np.asarray(after)])
    monkeypatch.setattr(mending, "per_sample", lambda *arguments: next(errors))
    model = SimpleNamespace(predict=lambda x, verbose: x)
    distance = mending._keep_if_better(model, (0, 0), None, progress, tmp_path)
    assert distance == pytest.approx(np.mean(after))
    assert progress.errors == list(after if saved else before)
    return bool(saved)


@pytest.mark.parametrize("count", [10, 30, 300])
def test_an_epoch_that_is_better_by_chance_is_not_taken(monkeypatch, tmp_path, count):
    """Errors of two networks as good as each other differ from sample to sample."""
    draws = np.random.default_rng(0)
    before = draws.uniform(0.5, 1.5, count)
    taken = [
        kept(
            monkeypatch,
            tmp_path,
            before=before,
            after=before * draws.uniform(0.5, 1.5, count),
        )
        for _ in range(100)
    ]
    assert np.mean(taken) < 0.1
    assert kept(monkeypatch, tmp_path, before=before, after=0.99 * before)
    assert not kept(monkeypatch, tmp_path, before=before, after=before)


@pytest.mark.filterwarnings("error")  # a deviation of one would be no number
def test_one_sample_tells_nothing(monkeypatch, tmp_path):
    assert not kept(monkeypatch, tmp_path, before=[1.0], after=[0.1])
    assert kept(monkeypatch, tmp_path, before=[], after=[0.1])


def test_the_time_that_measuring_takes_counts(lesson, tmp_path, monkeypatch):
    now = [0.0]
    measure = mending._keep_if_better

    def slow(*arguments):
        now[0] += 60.0
        return measure(*arguments)

    monkeypatch.setattr(mending, "_keep_if_better", slow)
    monkeypatch.setattr(mending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    _, progress = mend(lesson, tmp_path, 100.0)
    assert len(progress.history["loss"]) == 2
    assert progress.seconds == 120.0
