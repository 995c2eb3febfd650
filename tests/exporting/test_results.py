import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pgmpf_tf.exporting import Artifact, ExportReport, OutputError

ARTIFACTS = (
    Artifact(
        "saved_model",
        "float32",
        Path("out/saved_model"),
        123_456_789,
        (OutputError("scores", 1e-6, 2e-7, 3e-7, 1.0),),
        12.5,
    ),
    Artifact(
        "tflite",
        "dynamic",
        Path("out/model_dynamic.tflite"),
        8_249_531,
        (
            OutputError("boxes", 4e-2, 5e-3, 6e-3, None),
            OutputError("scores", 7e-2, 8e-3, 9e-3, 0.75),
        ),
        None,
    ),
)


def test_no_number_is_cut_on_a_narrow_terminal():
    report = ExportReport(ARTIFACTS, samples=256, source="held-out")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report)
    text = capture.get()
    for part in ("123,456,789", "1.0e-06", "3.0e-07", "100.0%", "12.5 ms", "8,249,531"):
        assert part in text
    for part in ("boxes", "4.0e-02", "6.0e-03", "7.0e-02", "9.0e-03", "75.0%"):
        assert part in text
    assert "…" not in text
    assert "256 held-out samples" in text


def test_artifacts_are_found_by_format():
    report = ExportReport(ARTIFACTS, samples=12, source="random")
    assert report["tflite"] is ARTIFACTS[1]
    with pytest.raises(KeyError):
        report["keras"]


def test_an_artifact_is_as_good_as_its_worst_output():
    artifact = ARTIFACTS[1]
    assert artifact.max_deviation == 7e-2
    assert artifact.mean_deviation == 8e-3
    assert artifact.relative_error == 9e-3
    assert artifact.top1_agreement == 0.75
    broken = replace(
        artifact, outputs=(*artifact.outputs, OutputError("x", *[float("nan")] * 4))
    )
    assert math.isnan(broken.max_deviation)
