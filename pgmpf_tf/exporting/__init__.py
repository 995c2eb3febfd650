"""Export to SavedModel and TFLite, verified on reload; quantization."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from pgmpf_tf.exporting.report import Artifact, ExportReport, VerificationError

if TYPE_CHECKING:
    from pgmpf_tf.exporting.exporting import export
    from pgmpf_tf.exporting.legacy import quantize_aware, to_tf_keras

__all__ = [
    "Artifact",
    "ExportReport",
    "VerificationError",
    "export",
    "quantize_aware",
    "to_tf_keras",
]

# These modules import TensorFlow, which users of another backend may not have.
_ON_TENSORFLOW = {
    "export": "pgmpf_tf.exporting.exporting",
    "quantize_aware": "pgmpf_tf.exporting.legacy",
    "to_tf_keras": "pgmpf_tf.exporting.legacy",
}


def __getattr__(name: str) -> Any:
    """What needs TensorFlow, imported when it is first asked for.

    Raises:
        ImportError: if TensorFlow is not installed.
    """
    if name not in _ON_TENSORFLOW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(f"pgmpf_tf.{name} needs TensorFlow: pip install tensorflow")
    return getattr(importlib.import_module(_ON_TENSORFLOW[name]), name)
