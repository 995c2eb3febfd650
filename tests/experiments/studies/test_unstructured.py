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


def test_the_zeros_stay_where_they_are_to_the_end(run):
    settings, data, networks = evaluation.finished_run(run)
    kept = networks["dense"].count_params() // 2
    sparse = unstructured.prune(networks["dense"], data, settings, kept)
    left = sum(int(np.count_nonzero(weight)) for weight in sparse.get_weights())
    assert left == pytest.approx(kept, abs=len(networks["dense"].layers))


def test_weights_are_penalised_as_in_the_run(run):
    settings, data, networks = evaluation.finished_run(run)

    def norm(**changes):
        sparse = unstructured.prune(
            networks["dense"], data, dataclasses.replace(settings, **changes), 30_000
        )
        return sum(float(np.sum(np.square(w))) for w in sparse.trainable_weights)

    assert norm(weight_decay=0.1) < 0.9 * norm(weight_decay=0.0)


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
