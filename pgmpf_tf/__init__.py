"""Structured pruning for Keras 3 that ends in a smaller network."""

from pgmpf_tf.channels import rules
from pgmpf_tf.channels.rules import register_rule
from pgmpf_tf.compaction import compact

__all__ = ["compact", "register_rule", "rules"]
