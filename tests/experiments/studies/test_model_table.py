import contextlib
import hashlib
import json
import shutil

import pytest

import pgmpf_tf
from experiments.run import evaluation
from experiments.studies import model_table


def test_a_row_says_what_the_files_of_a_run_are_worth(run):
    row = model_table.row_of(run)
    settings, data, networks = evaluation.finished_run(run)
    costs = [pgmpf_tf.profile(networks[name]) for name in ("dense", "small")]
    assert row["macs"] == [cost.macs for cost in costs]
    assert row["params"] == [cost.params for cost in costs]
    assert row["images"] == data.train_size
    images, labels = evaluation.test_set(data, settings.batch_size)
    for name, place in model_table.FILES.items():
        outputs = evaluation.tflite_outputs(run / "exports" / place, images, 50)
        found = row["files"][name]["accuracy"]
        assert found == evaluation.accuracy(outputs, labels)
    assert row["files"]["int8"]["bytes"] < row["files"]["small"]["bytes"]
    content = (run / "exports" / "compacted" / "model_int8.tflite").read_bytes()
    assert row["files"]["int8"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert all(file["milliseconds"] > 0 for file in row["files"].values())


def test_a_row_names_the_command_that_made_it(run):
    assert model_table.row_of(run)["commands"] == [
        "python -m experiments.train --output_dir=runs/tiny --dense_epochs=1 "
        "--epochs=2 --batch_size=32 --formats=tflite --quantize=int8 --qat_epochs=1 "
        "--train_examples=128"
    ]


@contextlib.contextmanager
def started_from(run, baseline):
    """The run, as if it had had its dense network from elsewhere."""
    record = run / "result.json"
    text = record.read_text("utf-8")
    result = json.loads(text)
    result["settings"] |= {"baseline": str(baseline), "dense_epochs": 0}
    del result["cost"]["dense"]
    record.write_text(json.dumps(result))
    yield
    record.write_text(text)


def test_a_row_names_the_run_that_trained_the_dense_network(run, tmp_path):
    own = model_table.row_of(run)
    dense = tmp_path / "dense_one"
    dense.mkdir()
    shutil.copy(run / "result.json", dense)
    with started_from(run, dense / "dense.keras"):
        row = model_table.row_of(run)
    first, second = row["commands"]
    assert [first] == [own["commands"][0].replace("runs/tiny", "runs/dense_one")]
    assert "--baseline=runs/dense_one/dense.keras" in second
    assert "--output_dir=runs/tiny" in second
    assert "--dense_epochs=0" in second
    assert row["images"] == own["images"]
    page = model_table.markdown([row])
    assert f"1. `{first}`\n   `{second}`\n" in page


def test_rows_are_added_and_those_of_the_same_command_renewed(run):
    row = model_table.row_of(run)
    other = row | {"commands": ["another"], "network": "another network"}
    first = model_table.merged([], [row, other])
    renewed = model_table.merged(first, [row | {"images": 3}])
    assert [r["images"] for r in renewed] == [row["images"], 3]
    page = model_table.markdown(renewed)
    assert "another network" in page
    assert "digits, 3 images" in page
    for file in ("small", "int8"):
        assert row["files"][file]["sha256"] in page


def test_runs_that_no_one_command_makes_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="finished run"):
        model_table.row_of(tmp_path)
    path = run / "exports" / "compacted" / "model_int8.tflite"
    aside = path.rename(path.with_suffix(".aside"))
    with pytest.raises(ValueError, match=r"--quantize=int8.*model_int8\.tflite"):
        model_table.row_of(run)
    aside.rename(path)
    for baseline in (tmp_path / "dense.keras", run / "dense.keras"):
        refused = pytest.raises(ValueError, match=rf"a run that did.*'{baseline}'")
        with started_from(run, baseline), refused:
            model_table.row_of(run)
