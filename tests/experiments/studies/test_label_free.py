import json

import numpy as np
import pytest

import pgmpf_tf
from experiments.run import evaluation
from experiments.studies import label_free


@pytest.fixture(scope="module")
def study(run, tmp_path_factory):
    return label_free.Study(run, tmp_path_factory.mktemp("records"))


@pytest.mark.parametrize("way", ["statistics", "0"])
def test_half_goes_and_the_dense_network_stays(run, way):
    _, data, networks = evaluation.finished_run(run)
    x, _ = data.arrays(data.train.take(40), 40)
    before = networks["dense"].get_weights()
    small = label_free.label_free(networks["dense"], x, way, seed=0)
    macs = [pgmpf_tf.profile(model).macs for model in (networks["dense"], small)]
    assert 0.3 * macs[0] < macs[1] <= 0.5 * macs[0]
    for old, new in zip(before, networks["dense"].get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_record_is_made_once(study):
    record = study.run("statistics", 40)
    assert record["agreement"] <= 1.0
    assert record["macs"] <= 0.5
    (path,) = study._folder.glob("statistics_40_*.json")
    path.write_text(json.dumps(record | {"accuracy": 0.123}), "utf-8")
    assert study.run("statistics", 40)["accuracy"] == 0.123
    path.write_text(json.dumps(record | {"settings": {}}), "utf-8")
    with pytest.raises(ValueError, match="other settings"):
        study.run("statistics", 40)


def test_more_images_than_there_are_are_refused(study):
    with pytest.raises(ValueError, match=r"`images` must be at most \d+.*=100000"):
        study.run("0", 100_000)


def test_rows_are_means_over_networks():
    settings = {"model": "resnet8", "dataset": "digits"}
    rest = dict.fromkeys(("macs", "processor_seconds", "seconds", "load"), 0.5)
    records = [
        {"way": way, "images": 100, "seed": seed, "dense": 0.9, "settings": settings}
        | {"accuracy": start + 0.02 * seed, "agreement": 0.7, **rest}
        for way, start in (("statistics", 0.5), ("4", 0.7))
        for seed in (0, 1)
    ]
    text = label_free.markdown(records)
    assert "| statistics | 100 | 2 | 51.00 ± 1.41 | 70.00 ± 0.00 | 50.0% |" in text
    assert "| prune, 4 minutes | 100 | 2 | 71.00 ± 1.41 |" in text
    assert "90.00 ± 0.00 % on all test" in text
