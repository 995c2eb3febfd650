"""Structured pruning for Keras 3 that ends in a smaller network."""

from pgmpf_tf import rules
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.delivery.results import PruningResult
from pgmpf_tf.delivery.run import prune
from pgmpf_tf.exporting import (
    Artifact,
    ExportReport,
    LayerError,
    OutputError,
    VerificationError,
    export,
    measure,
    quantize_aware,
    to_tf_keras,
)
from pgmpf_tf.folding.batch_norm import fold_batch_norm
from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.profiling import LayerProfile, Profile, profile
from pgmpf_tf.reporting import Comparison, Report, compare, report
from pgmpf_tf.rules import register_rule
from pgmpf_tf.scores import criteria
from pgmpf_tf.scores.ranking import Rounding
from pgmpf_tf.scores.sensitivity import sensitivity
from pgmpf_tf.scores.sensitivity_table import Sensitivity
from pgmpf_tf.training import callbacks
from pgmpf_tf.training.compensation import compensate
from pgmpf_tf.training.distillation import Distillation
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.recalibration import recalibrate
from pgmpf_tf.training.shrinking import compact
from pgmpf_tf.training.wrapping import wrap

__version__ = "0.2.0"

__all__ = [
    "Artifact",
    "Budget",
    "Comparison",
    "Distillation",
    "ExportReport",
    "LatencyTable",
    "LayerError",
    "LayerProfile",
    "OutputError",
    "Profile",
    "PrunedModel",
    "PruningConfig",
    "PruningResult",
    "Report",
    "Rounding",
    "Sensitivity",
    "VerificationError",
    "callbacks",
    "compact",
    "compare",
    "compensate",
    "criteria",
    "export",
    "fold_batch_norm",
    "measure",
    "profile",
    "prune",
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
