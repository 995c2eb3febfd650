"""Structured pruning for Keras 3 that ends in a smaller network."""

from pgmpf_tf import callbacks, criteria, schedules
from pgmpf_tf.budgets import Budget
from pgmpf_tf.channels import rules
from pgmpf_tf.channels.rules import register_rule
from pgmpf_tf.compaction import compact
from pgmpf_tf.config import PruningConfig
from pgmpf_tf.export import export, quantize_aware, to_tf_keras
from pgmpf_tf.profiling import profile
from pgmpf_tf.recalibration import recalibrate
from pgmpf_tf.report import compare, report
from pgmpf_tf.sensitivity import Sensitivity, sensitivity
from pgmpf_tf.training import PrunedModel, wrap

__all__ = [
    "Budget",
    "PrunedModel",
    "PruningConfig",
    "Sensitivity",
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
