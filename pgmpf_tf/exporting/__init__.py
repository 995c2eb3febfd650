"""Export to files that are verified on reload; quantization."""

from pgmpf_tf.budgets.runtimes import register_runtime
from pgmpf_tf.exporting.measuring import measure
from pgmpf_tf.exporting.pipeline import export
from pgmpf_tf.exporting.quantization_aware import quantize_aware, to_tf_keras
from pgmpf_tf.exporting.results import (
    Artifact,
    ExportReport,
    LayerError,
    OutputError,
    VerificationError,
)
from pgmpf_tf.exporting.timing import Stopwatch

__all__ = [
    "Artifact",
    "ExportReport",
    "LayerError",
    "OutputError",
    "VerificationError",
    "export",
    "measure",
    "quantize_aware",
    "to_tf_keras",
]

register_runtime("tflite", Stopwatch)
