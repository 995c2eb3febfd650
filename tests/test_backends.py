"""The rest of the world on the other backends: README, launchers, what is not there."""

import json
import re

import keras
import pytest

from tests.other_backends import (
    on_others,
    run_beside_tensorflow,
    run_without_tensorflow,
)

# `make test-backends` runs them: each starts a process or two.
pytestmark = pytest.mark.slow

# What a process that must not need TensorFlow would do with it.
WITHOUT = """
import sys
sys.modules["tensorflow"] = None
import pgmpf_tf
for name in pgmpf_tf.__all__:
    getattr(pgmpf_tf, name)
import pgmpf_tf.__main__
"""


@on_others("import without TensorFlow")
def test_the_import_needs_no_tensorflow(backend):
    run_without_tensorflow(backend, "-c", WITHOUT)


@on_others("the five lines of README")
def test_readme_runs_word_for_word(backend, tmp_path):
    output = run_beside_tensorflow(
        backend, "-m", "tests.readme_program", folder=tmp_path
    )
    found = re.search(rf"accuracy (.*) on {backend}", output)
    assert float(found[1]) > 0.9
    assert (tmp_path / "artifacts" / "model.tflite").is_file()


@on_others("`python -m experiments.train`")
def test_the_launcher_trains_prunes_and_exports(backend, tmp_path):
    command = (
        "-m experiments.train --train_examples=320 --batch_size=32 --dense_epochs=2 "
        f"--epochs=3 --shrink --quantize=int8 --output_dir={tmp_path}"
    )
    output = run_beside_tensorflow(backend, *command.split())
    assert "is finished" in " ".join(output.split())  # lines are broken anywhere
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["environment"]["backend"] == backend
    assert result["small"]["macs"] < 0.5 * result["dense"]["macs"]
    assert result["agreement"]["masked_compacted_deviation"] < 1e-4
    assert result["agreement"]["compacted_tflite_same_classes"] == 1.0
    assert result["quantized"]["tflite"]["precision"] == "int8"


IN_MEMORY = "images in the device's memory"


@pytest.mark.feature(IN_MEMORY, backend="torch", refused=True)
def test_pytorch_refuses_images_in_the_device_s_memory():
    tests = "-m pytest -q tests/experiments/run/test_runner.py -k on_device"
    assert "1 passed" in run_beside_tensorflow("torch", *tests.split())


@pytest.mark.feature(IN_MEMORY, backend="jax")
def test_images_in_the_device_s_memory(tmp_path):
    command = (
        "-m experiments.train --train_examples=320 --batch_size=64 --dense_epochs=0 "
        "--epochs=2 --on_device --precision=mixed_bfloat16 --formats= "
        f"--output_dir={tmp_path}"
    )
    tests = "-m pytest -q tests/experiments/data/test_on_device.py"
    run_beside_tensorflow("jax", *tests.split())
    run_beside_tensorflow("jax", *command.split())
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["agreement"]["masked_compacted_deviation"] < 1e-4
    for name in ("pruned", "compacted"):
        model = keras.saving.load_model(tmp_path / f"{name}.keras", compile=False)
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
