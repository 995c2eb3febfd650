"""Attention: what it costs."""

from __future__ import annotations

from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Barrier, Sizes, count


class MultiHeadAttention(Barrier):
    """Stays whole; its products are counted."""

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        """Projections of query, key and value, scores, weighted sum, output."""
        layer = node.operation
        query, value = sizes.inputs[0], sizes.inputs[1]
        key = sizes.inputs[2] if len(sizes.inputs) > 2 else value
        targets, sources = count(query[1:-1]), count(value[1:-1])
        # Every target looks at the sources along the attention axes only.
        span = count(tuple(value[axis] for axis in layer.attention_axes))
        heads, key_dim, value_dim = layer.num_heads, layer.key_dim, layer.value_dim
        gates = 1 if layer.get_config().get("use_gate") else 0
        projections = (
            targets * count(query[-1:]) * (key_dim + gates * value_dim)
            + sources * (count(key[-1:]) * key_dim + count(value[-1:]) * value_dim)
            + targets * value_dim * count(sizes.outputs[0][-1:])
        )
        products = targets * span * (key_dim + value_dim)
        return heads * (projections + products)
