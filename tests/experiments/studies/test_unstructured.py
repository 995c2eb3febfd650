import dataclasses
import shutil

import numpy as np
import pytest

from experiments.run import evaluation
from experiments.studies import unstructured


def test_as_many_parameters_are_left_as_in_the_small_network(run):
    rows = unstructured.compare(run)
    _, _, networks = evaluation.finished_run(run)
    expected = networks["small"].count_params()
    # tfmot rounds the number of weights that go in each layer.
    assert abs(rows["unstructured"]["parameters"] - expected) <= len(
        networks["dense"].layers
    )
    # Zeros do not make the file smaller; only an archive of it.
    assert rows["unstructured"]["bytes"] > 0.9 * rows["dense"]["bytes"]
    assert rows["unstructured"]["gzip_bytes"] < 0.6 * rows["dense"]["gzip_bytes"]
    assert rows["small"]["bytes"] < 0.4 * rows["dense"]["bytes"]
    assert all(0 <= row["accuracy"] <= 1 for row in rows.values())
    assert len(rows["unstructured"]["curve"]) == rows["unstructured"]["epochs"] == 2


def test_the_best_start_on_images_held_out_is_taken(run, monkeypatch):
    networks = evaluation.finished_run(run)[2]
    found = {
        0.5: (networks["small"], [0.7, 0.8, 0.2]),
        0.05: (networks["dense"], [0.1, 0.2, 0.6]),
        0.005: (networks["small"], [0.3, 0.4, 0.5]),
    }

    def prune(dense, data, settings, parameters):
        assert settings.epochs == 3
        return found[settings.prune_learning_rate]

    monkeypatch.setattr(unstructured, "prune", prune)
    rows = unstructured.compare(run, list(found), epochs=3)
    rival = rows["unstructured"]
    assert rival["parameters"] == rows["dense"]["parameters"]
    assert rival["prune_learning_rate"] == 0.05
    assert rival["epochs"] == 3
    assert rival["curve"] == [0.1, 0.2, 0.6]


def test_test_images_choose_no_start(run, monkeypatch):
    settings, *others = evaluation.finished_run(run)
    watched = dataclasses.replace(settings, held_out=0)
    monkeypatch.setattr(evaluation, "finished_run", lambda _: (watched, *others))
    monkeypatch.setattr(unstructured, "prune", None)
    with pytest.raises(ValueError, match=r"held out.*learning_rates=\[0\.1, 0\.05\]"):
        unstructured.compare(run, [0.1, 0.05])


KEPT = 30_000


@pytest.fixture(scope="module")
def sparse(run):
    """Networks that are pruned without and with a penalty on their weights."""
    settings, data, networks = evaluation.finished_run(run)
    return [
        unstructured.prune(
            networks["dense"], data, dataclasses.replace(settings, weight_decay=w), KEPT
        )[0]
        for w in (0.0, 0.1)
    ]


def test_the_zeros_stay_where_they_are_to_the_end(sparse):
    for model in sparse:
        left = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
        assert left == pytest.approx(KEPT, abs=len(model.layers))


def test_weights_are_penalized_as_in_the_run(sparse):
    free, penalized = (
        sum(float(np.sum(np.square(w))) for w in model.trainable_weights)
        for model in sparse
    )
    assert penalized < 0.9 * free


def test_more_than_all_kernels_cannot_go(run):
    settings, data, networks = evaluation.finished_run(run)
    with pytest.raises(ValueError, match=r"`parameters` must be in .*parameters=5"):
        unstructured.prune(networks["dense"], data, settings, 5)


def test_a_folder_without_a_run_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"finished run .*without .*settings\.json"):
        unstructured.compare(tmp_path)
    baseline = shutil.copytree(run, tmp_path / "run")
    (baseline / "compacted.keras").unlink()
    with pytest.raises(ValueError, match=r"without .*compacted\.keras"):
        unstructured.compare(baseline)
