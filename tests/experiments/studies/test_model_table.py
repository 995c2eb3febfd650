import hashlib
import json

import pytest

from experiments.run import runner
from experiments.run.settings import RunSettings
from experiments.studies import model_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = RunSettings(
        train_examples=64,
        batch_size=32,
        dense_epochs=1,
        epochs=1,
        budget=("macs=0.5",),
        formats=("tflite",),
        quantize="int8",
    )
    runner.run(settings, folder)
    return folder


def test_a_row_says_what_the_files_of_a_run_are_worth(run):
    row = model_table.row_of(run)
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert row["macs"][1] <= 0.5 * row["macs"][0]
    assert row["params"] == [result["dense"]["params"], result["small"]["params"]]
    for name, part in (("dense", "dense"), ("small", "small")):
        assert row["files"][name]["accuracy"] == result[part]["tflite_accuracy"]
    assert row["files"]["int8"]["bytes"] < row["files"]["small"]["bytes"]
    content = (run / "exports" / "compacted" / "model_int8.tflite").read_bytes()
    assert row["files"]["int8"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert all(file["milliseconds"] > 0 for file in row["files"].values())


def test_a_row_names_the_command_that_made_it(run):
    assert model_table.row_of(run)["command"] == (
        "python -m experiments.train --output_dir=runs/digits --budget=macs=0.5 "
        "--dense_epochs=1 --epochs=1 --batch_size=32 --formats=tflite --quantize=int8 "
        "--train_examples=64"
    )


def test_rows_are_added_and_those_of_the_same_command_renewed(run):
    row = model_table.row_of(run)
    other = row | {"command": "another", "network": "another network"}
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
    record = run / "settings.json"
    text = record.read_text("utf-8")
    record.write_text(json.dumps(json.loads(text) | {"baseline": "dense.keras"}))
    with pytest.raises(ValueError, match=r"itself.*baseline='dense\.keras'"):
        model_table.row_of(run)
    record.write_text(text)
