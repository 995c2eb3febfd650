from pathlib import Path

import pytest
from rich.console import Console

from pgmpf_tf.exporting import Artifact, ExportReport

ARTIFACTS = (
    Artifact(
        "saved_model",
        "float32",
        Path("out/saved_model"),
        123_456_789,
        1e-6,
        2e-7,
        1.0,
        12.5,
    ),
    Artifact(
        "tflite",
        "dynamic",
        Path("out/model_dynamic.tflite"),
        8_249_531,
        0.0,
        0.0,
        None,
        None,
    ),
)


def test_no_number_is_cut_on_a_narrow_terminal():
    report = ExportReport(ARTIFACTS, samples=256, random=False)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report)
    text = capture.get()
    for part in ("123,456,789", "1.0e-06", "2.0e-07", "100.0%", "12.5 ms", "8,249,531"):
        assert part in text
    assert "…" not in text
    assert "256 given samples" in text


def test_artifacts_are_found_by_format():
    report = ExportReport(ARTIFACTS, samples=12, random=True)
    assert report["tflite"] is ARTIFACTS[1]
    with pytest.raises(KeyError):
        report["keras"]
