"""Export to SavedModel and TFLite, verified on reload; quantization."""

from pgmpf_tf.exporting.exporting import export
from pgmpf_tf.exporting.legacy import quantize_aware, to_tf_keras
from pgmpf_tf.exporting.report import Artifact, ExportReport, VerificationError

__all__ = [
    "Artifact",
    "ExportReport",
    "VerificationError",
    "export",
    "quantize_aware",
    "to_tf_keras",
]
