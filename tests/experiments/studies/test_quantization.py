import json

import pytest

from experiments.studies import quantization


def test_every_rung_is_there_and_smaller(run):
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert result["quantized"]["tflite"]["precision"] == "int8"
    assert (run / "exports" / "compacted" / "model_int8.tflite").is_file()
    rungs = list(quantization.climb(run, qat_epochs=1))
    assert [(rung.network, rung.precision) for rung in rungs] == [
        ("dense", "float32"),
        ("small", "float32"),
        ("small", "float16"),
        ("small", "dynamic"),
        ("small", "int8"),
        ("small", quantization.QAT),
    ]
    dense, small, half, dynamic, int8, aware = rungs
    assert dense.bytes > small.bytes > half.bytes > dynamic.bytes
    assert max(int8.bytes, aware.bytes) < half.bytes
    for rung in (half, dynamic, int8):
        assert rung.accuracy == pytest.approx(small.accuracy, abs=0.1)
    assert aware.accuracy > int8.accuracy - 0.1  # it has been trained meanwhile
    assert len(list((run / "ladder").rglob("*.tflite"))) == 6


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"run_dir.*compacted\.keras"):
        next(quantization.climb(tmp_path, qat_epochs=1))
