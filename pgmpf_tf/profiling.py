"""What a model costs: multiply-accumulates and parameters, per layer and in all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from keras import layers
from rich.table import Table

from pgmpf_tf.channels.arrays import NoRule, Shape
from pgmpf_tf.channels.graph import trace
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.channels.sizes import settle_sizes
from pgmpf_tf.rules import Barrier, Rule, Sizes, rule_for


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one layer.

    Attributes:
        name: the layer's name.
        type: its class.
        output_shape: shape of its output, batch first; of its first call if shared.
        macs: multiply-accumulates per sample, summed over its calls.
        params: entries of its weights, trainable or not.
        calls: how often the model calls it.
        convolution: whether it is a convolution of some kind.
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    macs: int
    params: int
    calls: int
    convolution: bool


@dataclass(frozen=True)
class Profile:
    """The cost of a model; see `profile`.

    Attributes:
        name: the model's name.
        layers: one row per layer or operation, in graph order.
        uncounted: names of layers with kernels whose multiply-accumulates are not
            known (layers without a rule, say): `macs` lacks them.
        counted_at: the input shapes that `macs` is for, if the model leaves sizes
            open; else empty.
    """

    name: str
    layers: tuple[LayerProfile, ...]
    uncounted: tuple[str, ...] = ()
    counted_at: tuple[Shape, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample, each counted once."""
        return sum(row.macs for row in self.layers)

    @property
    def conv_macs(self) -> int:
        """The part of `macs` that convolutions do: the "FLOPs" of pruning papers."""
        return sum(row.macs for row in self.layers if row.convolution)

    @property
    def params(self) -> int:
        """Entries of all weights, trainable or not; shared weights count once."""
        return sum(row.params for row in self.layers)

    def __rich__(self) -> Table:
        """The rows that cost something, and the total, as a table."""
        table = Table(title=self.name, caption=self._caption())
        for heading in ("layer", "type", "output shape"):
            table.add_column(heading, overflow="fold")
        for heading in ("MACs", "parameters"):
            table.add_column(heading, justify="right")
        for row in self.layers:
            if row.macs or row.params:
                shape = " x ".join(str(d) for d in row.output_shape[1:])
                table.add_row(
                    row.name, row.type, shape, f"{row.macs:,}", f"{row.params:,}"
                )
        table.add_section()
        table.add_row("total", "", "", f"{self.macs:,}", f"{self.params:,}")
        return table

    def _caption(self) -> str | None:
        notes = []
        if self.counted_at:
            shapes = (" x ".join(map(str, shape[1:])) for shape in self.counted_at)
            notes.append("MACs for inputs of " + ", ".join(shapes))
        if self.uncounted:
            notes.append("MACs without those of: " + ", ".join(self.uncounted))
        return "\n".join(notes) or None


def profile(model: keras.Model) -> Profile:
    """Counts the multiply-accumulates and the parameters of a model.

    A multiply-accumulate counts once (not as two operations), for one sample.
    Counted are convolutions of every kind, matrix products and attention; biases,
    normalization, activations and pooling are not, as in the literature of pruning.
    Nested models are looked into. What a layer costs is known to its rule; layers of
    which nobody knows it are named in `uncounted`.

    ```python
    cost = pgmpf_tf.profile(model)
    print(cost.macs, cost.params)
    rich.print(cost)
    ```

    Args:
        model: a built model. Where it leaves the size of an input open, an image
            counts with 224 pixels a side, and a sequence with 128 steps.

    Returns:
        The totals, and one row per layer.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: it is not built.
    """
    seen: set[int] = set()
    rows, uncounted = [], []
    graph = settle_sizes(trace(model))
    for nodes in graph.calls().values():
        operation = nodes[0].operation
        rule = rule_for(operation)
        counts = [macs_of(node, rule, Sizes.of(node)) for node in nodes]
        if None in counts:
            uncounted.append(nodes[0].name)
        own = [w for w in getattr(operation, "weights", ()) if id(w) not in seen]
        seen |= {id(w) for w in own}
        rows.append(
            LayerProfile(
                name=nodes[0].name,
                type=type(operation).__name__,
                output_shape=tuple(nodes[0].outputs[0].shape),
                macs=sum(macs for macs in counts if macs is not None),
                params=sum(math.prod(w.shape) for w in own),
                calls=len(nodes),
                convolution=isinstance(operation, _CONVOLUTIONS),
            )
        )
    inputs = tuple(tensor.size or tensor.shape for tensor in graph.inputs)
    settled = any(None in tensor.shape[1:] for tensor in graph.inputs)
    return Profile(model.name, tuple(rows), tuple(uncounted), inputs if settled else ())


def macs_of(node: Node, rule: Rule, sizes: Sizes) -> int | None:
    """Multiply-accumulates of a call of some size for one sample; None: unknown."""
    try:
        macs = rule.macs(node, sizes)
    except NoRule:
        macs = Barrier().macs(node, sizes)
    return None if macs is None else macs * node.outputs[0].copies


_CONVOLUTIONS = tuple(
    getattr(layers, f"{kind}{n}D{suffix}")
    for kind, ranks, suffix in [
        ("Conv", (1, 2, 3), ""),
        ("Conv", (1, 2, 3), "Transpose"),
        ("DepthwiseConv", (1, 2), ""),
        ("SeparableConv", (1, 2), ""),
    ]
    for n in ranks
)
