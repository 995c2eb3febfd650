"""Export to files that are verified on reload; quantization."""

from pgmpf_tf.exporting.pipeline import export
from pgmpf_tf.exporting.quantization_aware import quantize_aware, to_tf_keras
from pgmpf_tf.exporting.results import (
    Artifact,
    ExportReport,
    OutputError,
    VerificationError,
)

__all__ = [
    "Artifact",
    "ExportReport",
    "OutputError",
    "VerificationError",
    "export",
    "quantize_aware",
    "to_tf_keras",
]
