"""Export to SavedModel and TFLite, verified on reload; quantization."""

from pgmpf_tf.export.exporting import export
from pgmpf_tf.export.legacy import quantize_aware, to_tf_keras
from pgmpf_tf.export.report import Artifact, ExportReport, VerificationError

__all__ = [
    "Artifact",
    "ExportReport",
    "VerificationError",
    "export",
    "quantize_aware",
    "to_tf_keras",
]
