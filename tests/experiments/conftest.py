"""A small finished run, trained once for all the tests that take one."""

import shutil

import pytest

from experiments.run import runner as runs
from experiments.run.settings import RunSettings


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    settings = RunSettings(
        train_examples=128,
        batch_size=32,
        dense_epochs=1,
        epochs=2,
        formats=("tflite",),
        quantize="int8",
        qat_epochs=1,
    )
    runs.run(settings, folder)
    return folder


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A copy of the run, for a module to write into."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("copies") / "tiny")
