"""How channels flow through a Keras graph, and which of them live and die together."""

from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import Graph, Node, Tensor, trace
from pgmpf_tf.channels.units import NO_UNIT, Analysis, Group, Member, Pin

__all__ = [
    "NO_UNIT",
    "Analysis",
    "Graph",
    "Group",
    "Member",
    "Node",
    "Pin",
    "Tensor",
    "analyze",
    "trace",
]
