"""What pruning did to a model, to read."""

from pgmpf_tf.report.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
