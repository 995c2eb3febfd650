"""Structured pruning for Keras 3 that ends in a smaller network."""

from typing import TYPE_CHECKING, Any

from pgmpf_tf import exporting, rules
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.compaction import compact
from pgmpf_tf.exporting import VerificationError
from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.profiling import profile
from pgmpf_tf.reporting import compare, report
from pgmpf_tf.rules import register_rule
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.sensitivity import Sensitivity, sensitivity
from pgmpf_tf.training import callbacks
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.recalibration import recalibrate
from pgmpf_tf.training.wrapping import wrap

if TYPE_CHECKING:
    from pgmpf_tf.exporting import export, quantize_aware, to_tf_keras

__version__ = "0.2.0"

__all__ = [
    "Budget",
    "PrunedModel",
    "PruningConfig",
    "Sensitivity",
    "VerificationError",
    "callbacks",
    "compact",
    "compare",
    "criteria",
    "export",
    "profile",
    "quantize_aware",
    "recalibrate",
    "register_rule",
    "report",
    "rules",
    "schedules",
    "sensitivity",
    "to_tf_keras",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """What needs TensorFlow: other backends must not have to import it."""
    if name in __all__:
        return getattr(exporting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
