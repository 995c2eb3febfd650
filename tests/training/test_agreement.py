"""The same model, data and seed give the same masks on every backend."""

import os
import pathlib
import subprocess

import keras
import numpy as np
import pytest

from tests.training import agreement_program

ROOT = pathlib.Path(__file__).parents[2]


def interpreter(backend):
    """Python of the virtual environment that `make test-backends` sets up."""
    path = ROOT / f".venv-{backend}" / "bin" / "python"
    if not path.exists():
        pytest.skip(f"no {path.relative_to(ROOT)}: make test-backends sets it up")
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares the others with TensorFlow, where they are all at hand")
    path = tmp_path_factory.mktemp("ours") / "end.npz"
    agreement_program.main(path)
    return dict(np.load(path))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_masks_and_weights_are_those_of_tensorflow(backend, ours, tmp_path):
    path = tmp_path / "end.npz"
    program = subprocess.run(
        [interpreter(backend), "-m", "tests.training.agreement_program", path],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert program.returncode == 0, program.stderr
    theirs = dict(np.load(path))
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        if name.endswith("masks"):
            np.testing.assert_array_equal(theirs[name], value, err_msg=name)
            assert len(np.unique(value, axis=0)) > 1, name  # they do move
        else:
            np.testing.assert_allclose(theirs[name], value, atol=2e-4, err_msg=name)
            np.testing.assert_array_equal(theirs[name] == 0, value == 0, err_msg=name)
