"""The command line; once as a user runs it, in a process of its own."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import pgmpf_tf
from pgmpf_tf.__main__ import main
from tests.exporting.networks import convnet, images


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model file with half of its filters dead, and files of samples."""
    folder = tmp_path_factory.mktemp("files")
    model = convnet()
    for weight in (*model.get_layer("stem").weights, *model.get_layer("norm").weights):
        weight.assign(np.where(np.arange(8) < 4, weight, 0))
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", image=images(32), label=np.zeros(32))
    return folder


def run(capsys, *arguments):
    """What a command prints that ends well."""
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_compact_then_profile_then_export(files, tmp_path, capsys):
    small = tmp_path / "small.keras"
    assert "-50.0%" in run(capsys, "compact", files / "model.keras", small)
    compacted, dense = (
        keras.models.load_model(path) for path in (small, files / "model.keras")
    )
    assert compacted.get_layer("stem").filters == 4
    np.testing.assert_allclose(compacted(images()), dense(images()), atol=1e-5)

    lines = run(capsys, "profile", small).splitlines()
    (total,) = [line for line in lines if "total" in line]
    assert f"{8 * 8 * 27 * 4 + 4 * 4:,}" in total

    target = tmp_path / "out"
    printed = run(
        capsys,
        "export",
        small,
        target,
        "--formats=tflite",
        "--quantize=int8",
        f"--data={files / 'data.npz'}",
        "--integer_io",
        "--batch_size=2",
    )
    assert "10 held-out samples" in printed
    assert [path.name for path in target.iterdir()] == ["model_int8.tflite"]
    interpreter = Interpreter(str(target / "model_int8.tflite"))
    (detail,) = interpreter.get_input_details()
    assert (list(detail["shape"]), detail["dtype"]) == ([2, 8, 8, 3], np.int8)


def test_measure_writes_a_table_for_budgets(files, tmp_path, capsys):
    table = tmp_path / "table.json"
    command = ("measure", files / "model.keras", f"--output={table}")
    figures = json.loads(run(capsys, *command, "--json"))
    assert figures["parts"] >= 2  # the convolution and the classifier
    assert figures["networks"] == 1
    assert figures == json.loads(run(capsys, *command, "--json"))
    loaded = pgmpf_tf.LatencyTable.load(table)
    assert len(loaded.times) == figures["parts"]
    assert pgmpf_tf.Budget(latency=0.1, latency_table=table).table == loaded


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "required: COMMAND"),
        (["shrink"], 2, "invalid choice: 'shrink'"),
        (["export", "a.keras", "out", "--batch=3"], 2, "unrecognized arguments"),
        (["export", "a.keras", "out", "--batch_size=x"], 2, "invalid int value: 'x'"),
        (["compact", "model.keras", "small.h5"], 1, "must end in .keras"),
        (["export", "a.keras", "out", "--data=missing.npy"], 1, "missing.npy"),
        (["profile", "missing.keras"], 1, "missing.keras"),
        (["measure", "a.keras"], 2, "required: --output"),
        (["prune", "a.keras", "--budget=macs"], 2, "--budget: must be fractions by"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(arguments, status, message, capsys):
    try:
        returned = main(arguments)
    except SystemExit as error:
        returned = error.code
    assert returned == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) <= 10


@pytest.mark.parametrize(
    "command", ["profile", "compact", "export", "measure", "prune"]
)
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: pgmpf_tf {command}" in capsys.readouterr().out


def test_a_process_explains_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("nothing")
    command = [sys.executable, "-m", "pgmpf_tf", "profile", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
