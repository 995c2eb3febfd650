"""Processes on the other backends, beside TensorFlow or without it."""

import os
import pathlib
import subprocess
import sys
import sysconfig

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
OTHERS = ("jax", "torch")


def on_others(feature):
    """Runs a test with the name of each other backend, and notes it as a feature."""
    return pytest.mark.parametrize(
        "backend",
        [
            pytest.param(name, marks=pytest.mark.feature(feature, backend=name))
            for name in OTHERS
        ],
    )


def _folder(backend):
    """The virtual environment that `make test-backends` sets up."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("starts processes from the environment with TensorFlow")
    path = ROOT / f".venv-{backend}"
    if not path.exists():
        pytest.skip(f"no {path.name}: make test-backends sets it up")
    return path


def run_without_tensorflow(backend, *arguments):
    """Runs Python where the backend is installed, and TensorFlow is not."""
    return _run(_folder(backend) / "bin" / "python", backend, arguments, {})


def run_beside_tensorflow(backend, *arguments, folder=ROOT):
    """Runs Python where the backend and all that this process has are installed."""
    (packages,) = _folder(backend).glob("lib/python*/site-packages")
    # What both have is taken from the first.
    places = [str(ROOT), sysconfig.get_path("purelib"), str(packages)]
    paths = {"PYTHONPATH": os.pathsep.join(places)}
    return _run(sys.executable, backend, arguments, paths, folder)


def _run(python, backend, arguments, environment, folder=ROOT):
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
