"""Pruning-aware training: the model that `wrap` returns."""

from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.wrapping import wrap

__all__ = ["PrunedModel", "wrap"]
