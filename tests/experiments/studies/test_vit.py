import dataclasses
import json

import numpy as np
import pytest

from experiments.studies import defaults, vit

# Eight trainings of a transformer.
slow = pytest.mark.slow

NORMALIZATIONS, TOKENS, WIDTH = 3, 5, 8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plan = vit.Plan(
        train=64,
        held_out=64,
        size=16,
        patch=8,
        depth=1,
        width=WIDTH,
        heads=2,
        hidden=8,
        dense_epochs=1,
        epochs=4,
        batch_size=32,
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 16, 16, 3)).astype("float32")
    parts = dict.fromkeys(("train", "held_out", "test"), (images, np.arange(64) % 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "load", lambda source, tfds_dir: parts)
        yield vit.Study(plan, tmp_path_factory.mktemp("vit"), None)


@pytest.fixture(scope="module")
def records(study):
    return [study.run(way, 0) for way in vit.WAYS]


@slow
def test_what_is_named_is_what_goes(records):
    kept = {record["way"]: record["kept"] for record in records}
    halves = {"heads": ["1 of 2"], "neurons": ["4 of 8"], "width": ["4 of 8"]}
    wholes = {"heads": ["2 of 2"], "neurons": ["8 of 8"], "width": ["8 of 8"]}
    for way in ("default", "hard"):
        assert kept[way] == halves
    for kind in vit.KINDS:
        assert kept[f"{kind} only"] == wholes | {kind: halves[kind]}


@slow
def test_the_small_network_costs_what_one_built_narrow_does(records):
    macs = {record["way"]: record["macs"] for record in records}
    assert macs["dense"] == macs["trained on"]
    assert macs["default"] == macs["hard"]
    # What is left of a normalization scales by a layer of its own, which is counted.
    scales = NORMALIZATIONS * TOKENS * WIDTH // 2
    assert macs["default"] == macs["from scratch"] + scales


@slow
def test_what_is_there_is_not_done_again(study, records):
    path = study.folder / "0" / "default.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {"held_out": 0.123}), "utf-8")
    assert study.run("default", 0)["held_out"] == 0.123
    other = dataclasses.replace(study.plan, pruning_learning_rate=0.1)
    with pytest.raises(ValueError, match="other settings"):
        vit.Study(other, study.folder, None).run("default", 0)


@slow
def test_table_and_files(study, records, tmp_path, monkeypatch):
    monkeypatch.setattr(vit, "ROUNDS", 3)
    vit.write(study, records, tmp_path)
    content = json.loads((tmp_path / "vit.json").read_text("utf-8"))
    assert [file["way"] for file in content["files"]] == [
        "dense",
        "default",
        "from scratch",
    ]
    assert all(file["deviation"] < 1e-5 for file in content["files"])
    tests = {run["way"]: run["test"] for run in content["runs"]}
    assert tests.keys() == vit.WAYS.keys()
    text = (tmp_path / "vit.md").read_text("utf-8")
    behind = 100 * (tests["trained on"] - tests["default"])
    row = f"| default | 1 | {100 * tests['default']:.2f} | {behind:.2f} |"
    assert row in text
    assert "| 1 of 2 | 4 of 8 | 4 of 8 |" in text
