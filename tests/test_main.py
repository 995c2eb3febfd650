"""The command line, as a user runs it: in a process of its own."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.exporting.networks import convnet, images


def run(*arguments):
    command = [sys.executable, "-m", "pgmpf_tf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


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


def test_compact_then_profile_then_export(files, tmp_path):
    small = tmp_path / "small.keras"
    done = run("compact", files / "model.keras", small)
    assert done.returncode == 0, done.stderr
    assert "-50.0%" in done.stdout
    compacted, dense = (
        keras.models.load_model(path) for path in (small, files / "model.keras")
    )
    assert compacted.get_layer("stem").filters == 4
    np.testing.assert_allclose(compacted(images()), dense(images()), atol=1e-5)

    done = run("profile", small)
    assert done.returncode == 0, done.stderr
    (total,) = [line for line in done.stdout.splitlines() if "total" in line]
    assert f"{8 * 8 * 27 * 4 + 4 * 4:,}" in total

    target = tmp_path / "out"
    done = run(
        "export",
        small,
        target,
        "--formats=tflite",
        "--quantize=int8",
        f"--data={files / 'data.npz'}",
        "--integer_io",
        "--batch_size=2",
    )
    assert done.returncode == 0, done.stderr
    assert "32 given samples" in done.stdout
    assert [path.name for path in target.iterdir()] == ["model_int8.tflite"]
    interpreter = Interpreter(str(target / "model_int8.tflite"))
    (detail,) = interpreter.get_input_details()
    assert (list(detail["shape"]), detail["dtype"]) == ([2, 8, 8, 3], np.int8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shrink"], "one of profile, compact, export. Received: shrink"),
        (["compact", "model.keras", "small.h5"], "must end in .keras"),
        (["export", "a.keras", "out", "--data=missing.npy"], "missing.npy"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(arguments, message):
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
