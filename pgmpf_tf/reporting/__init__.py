"""What pruning did to a model, to read."""

from pgmpf_tf.reporting.comparison import Comparison, compare
from pgmpf_tf.reporting.page import Report, report

__all__ = ["Comparison", "Report", "compare", "report"]
