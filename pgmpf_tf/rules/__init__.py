"""One rule per kind of layer or operation, and the registry that finds them.

To teach pgmpf_tf a layer type is one line here (or `register_rule` outside).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras.src.applications import convnext, inception_resnet_v2

from pgmpf_tf._checks import received
from pgmpf_tf.channels import stand_ins
from pgmpf_tf.channels.arrays import NoRule, expand, kept_along, on_axis
from pgmpf_tf.channels.flow import NO_LABEL, Channels, Flow
from pgmpf_tf.channels.folding import Gather, Standardize
from pgmpf_tf.channels.nodes import RULED, Node, Tensor, ruled_class
from pgmpf_tf.rules import indexing, opened, rearranging
from pgmpf_tf.rules.along import Activation, Along
from pgmpf_tf.rules.attention import GroupQueryAttention, MultiHeadAttention
from pgmpf_tf.rules.base import Barrier, Layout, Rule, Sizes, count
from pgmpf_tf.rules.channelwise import Channelwise, channel_axis
from pgmpf_tf.rules.contractions import EinsumDense
from pgmpf_tf.rules.elementwise import (
    ELEMENTWISE,
    Elementwise,
    Identity,
    PointwiseActivation,
    PReLU,
    Rescaling,
    Zeros,
    pointwise,
)
from pgmpf_tf.rules.embeddings import Embedding, ReversibleEmbedding
from pgmpf_tf.rules.entrywise import Entrywise
from pgmpf_tf.rules.guarded import guard
from pgmpf_tf.rules.joins import (
    DIFFERENCE,
    MAXIMUM,
    MINIMUM,
    POWER,
    PRODUCT,
    QUOTIENT,
    SUM,
    Average,
    Concatenate,
    ScaledSum,
    Select,
)
from pgmpf_tf.rules.mixing import Mixing, SeparableConv, TransposedConv
from pgmpf_tf.rules.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    Standardized,
    UnitNormalization,
)
from pgmpf_tf.rules.per_channel import BatchNormalization, DepthwiseConv, PerChannel
from pgmpf_tf.rules.plain_attention import PlainAttention
from pgmpf_tf.rules.products import DotProductAttention, Einsum, Matmul
from pgmpf_tf.rules.rebuilding import Build, Builder, Cut, Rebuilt, narrower, passed_on
from pgmpf_tf.rules.recurrent import Bidirectional, Recurrent
from pgmpf_tf.rules.spatial import Reduction, Spatial, Total
from pgmpf_tf.rules.weights import Weights, evaluate

_RULES: dict[type, Rule] = {
    layers.Dense: Mixing("units"),
    layers.Embedding: Embedding(),
    layers.LSTM: Recurrent(),
    layers.GRU: Recurrent(),
    layers.SimpleRNN: Recurrent(),
    layers.Bidirectional: Bidirectional(),
    layers.LayerNormalization: LayerNormalization(),
    layers.RMSNormalization: RMSNormalization(),
    layers.GroupNormalization: GroupNormalization(),
    layers.UnitNormalization: UnitNormalization(),
    layers.MultiHeadAttention: MultiHeadAttention(),
    layers.GroupQueryAttention: GroupQueryAttention(),
    layers.Attention: PlainAttention(),
    layers.AdditiveAttention: PlainAttention(),
    layers.EinsumDense: EinsumDense(),
    layers.BatchNormalization: BatchNormalization(),
    layers.PReLU: PReLU(),
    layers.Activation: Activation(PointwiseActivation()),
    layers.Softmax: Along(),
    layers.Rescaling: Rescaling(),
    layers.Add: SUM,
    layers.Subtract: DIFFERENCE,
    layers.Multiply: PRODUCT,
    layers.Maximum: MAXIMUM,
    layers.Minimum: MINIMUM,
    layers.Average: Average(),
    layers.Concatenate: Concatenate(),
    layers.Flatten: rearranging.FLATTEN,
    layers.Reshape: rearranging.RESHAPE_LAYER,
    layers.Permute: rearranging.Rearrange(rearranging.permute),
    layers.RepeatVector: rearranging.Rearrange(rearranging.repeat_vector),
    layers.Resizing: Spatial(),
    convnext.LayerScale: PerChannel("gamma"),
    inception_resnet_v2.CustomScaleLayer: ScaledSum(),
    Gather: indexing.Gathering(),
    Standardize: Standardized(),
    stand_ins.Source: opened.Source(),
    stand_ins.Constant: opened.Constant(),
    stand_ins.BatchBroadcast: opened.Broadcast(),
    stand_ins.Passing: opened.Passing(),
}
_RULES |= {getattr(layers, f"Conv{n}D"): Mixing("filters") for n in (1, 2, 3)}
_RULES |= {getattr(layers, f"Conv{n}DTranspose"): TransposedConv() for n in (1, 2, 3)}
_RULES |= {getattr(layers, f"DepthwiseConv{n}D"): DepthwiseConv() for n in (1, 2)}
_RULES |= {getattr(layers, f"SeparableConv{n}D"): SeparableConv() for n in (1, 2)}
if hasattr(layers, "ReversibleEmbedding"):  # Keras 3.13
    _RULES[layers.ReversibleEmbedding] = ReversibleEmbedding()
# Averages at the edges may or may not count the padding; the others keep constants.
_CONSTANT = {"MaxPooling", "GlobalMaxPooling", "GlobalAveragePooling", "Cropping"}
_RULES |= {
    getattr(layers, f"{kind}{n}D"): Spatial(keeps_constants=kind in _CONSTANT)
    for n in (1, 2, 3)
    for kind in [
        "MaxPooling",
        "AveragePooling",
        "GlobalMaxPooling",
        "GlobalAveragePooling",
        "AdaptiveMaxPooling",
        "AdaptiveAveragePooling",
        "ZeroPadding",
        "Cropping",
        "UpSampling",
    ]
    # Keras 3.12, the last one for Python 3.10, has no adaptive pooling.
    if hasattr(layers, f"{kind}{n}D")
}
_RULES |= {
    layer: Elementwise() for layer in (layers.ReLU, layers.LeakyReLU, layers.ELU)
}
_RULES |= {
    layer: Identity()
    for layer in (
        layers.Dropout,
        layers.SpatialDropout1D,
        layers.SpatialDropout2D,
        layers.SpatialDropout3D,
        layers.AlphaDropout,
        layers.GaussianDropout,
        layers.GaussianNoise,
        layers.ActivityRegularization,
        layers.Identity,
        convnext.StochasticDepth,
    )
}

# keras.ops have no public classes: they are known by the names of their operations.
_OPERATIONS: dict[str, Rule] = {
    "Add": SUM,
    "Subtract": DIFFERENCE,
    "Multiply": PRODUCT,
    "Divide": QUOTIENT,
    "Power": POWER,
    "TrueDivide": QUOTIENT,
    "Maximum": MAXIMUM,
    "Minimum": MINIMUM,
    "Concatenate": Concatenate(),
    "Reshape": rearranging.RESHAPE,
    "Transpose": rearranging.Rearrange(rearranging.transpose),
    "Swapaxes": rearranging.Rearrange(rearranging.swapaxes),
    "Moveaxis": rearranging.Rearrange(rearranging.moveaxis),
    "ExpandDims": rearranging.Rearrange(rearranging.expand_dims),
    "Squeeze": rearranging.Squeeze(),
    "Flip": rearranging.Rearrange(rearranging.flip),
    "Repeat": rearranging.Rearrange(rearranging.repeat),
    "Split": indexing.Split(),
    "GetItem": indexing.GetItem(),
    "Pad": rearranging.Pad(),
    "Roll": rearranging.Rearrange(rearranging.roll),
    "Stack": indexing.Stack(),
    "Unstack": indexing.Unstack(),
    "Take": indexing.Take(),
    "TakeAlongAxis": indexing.TakeAlongAxis(),
    "Where": Select(),
    "Einsum": Einsum(),
    "Matmul": Matmul(),
    "DotProductAttention": DotProductAttention(),
    "Softmax": Along(),
    "LogSoftmax": Along(),
    "Sort": Along(keeps_zero=True),
    "Cumsum": Along(keeps_zero=True),
    "BroadcastTo": opened.Broadcast(),
    "ZerosLike": Zeros(),
    "ConvertToTensor": Identity(),
    "Cast": Identity(),
    "Copy": Identity(),
    "StopGradient": Identity(),
}
_OPERATIONS |= {"Mean": Total(), "Sum": Total(), "Max": Reduction(), "Min": Reduction()}
_OPERATIONS |= {
    name: Spatial()
    for name in [
        "MaxPool",
        "AveragePool",
        "AdaptiveMaxPool",
        "AdaptiveAveragePool",
        "Resize",
    ]
}
_OPERATIONS |= {name: Elementwise() for name in ELEMENTWISE}
_BARRIER = Barrier()
_RULES = {layer: guard(rule) for layer, rule in _RULES.items()}
_OPERATIONS = {name: guard(rule) for name, rule in _OPERATIONS.items()}
RULED.update(_RULES)


def register_rule(layer: type[keras.layers.Layer], rule: Rule) -> None:
    """Tell pgmpf_tf how channels flow through a layer of your own.

    ```python
    pgmpf_tf.register_rule(MySwish, pgmpf_tf.rules.Elementwise())
    pgmpf_tf.register_rule(MyScale, pgmpf_tf.rules.PerChannel("scale"))
    ```

    The rule holds for the class and for subclasses that inherit its `call`. Where it
    fails on a layer, that layer stays whole: a warning and `pruning_summary()` say why.

    Args:
        layer: the layer class.
        rule: an instance of one of `pgmpf_tf.rules`, or of a subclass of
            `pgmpf_tf.rules.Rule`.

    Raises:
        TypeError: not a layer class, or not a rule.
    """
    if not (isinstance(layer, type) and issubclass(layer, keras.Operation)):
        raise TypeError(f"`layer` must be a layer class. {received('layer', layer)}")
    if not isinstance(rule, Rule):
        raise TypeError(
            "`rule` must be an instance of pgmpf_tf.rules.Rule (Elementwise(), "
            f"PerChannel(...), ...). {received('rule', rule)}"
        )
    _RULES[layer] = guard(rule)
    RULED.add(layer)


def rule_for(operation: keras.Operation) -> Rule:
    """The rule of an operation; a barrier if there is none.

    A subclass shares its parent's rule only if it also shares its parent's `call`.
    """
    kind: Any = type(operation)
    ruled = ruled_class(kind)
    if ruled is not None:
        return _RULES[ruled]
    if kind.__module__.startswith(("keras.src.ops.", "keras.src.activations.")):
        return _OPERATIONS.get(kind.__name__, _BARRIER)
    return _BARRIER


__all__ = [
    "NO_LABEL",
    "Activation",
    "Along",
    "Average",
    "Barrier",
    "BatchNormalization",
    "Bidirectional",
    "Build",
    "Builder",
    "Channels",
    "Channelwise",
    "Concatenate",
    "Cut",
    "DepthwiseConv",
    "DotProductAttention",
    "Einsum",
    "EinsumDense",
    "Elementwise",
    "Embedding",
    "Entrywise",
    "Flow",
    "GroupNormalization",
    "GroupQueryAttention",
    "Identity",
    "LayerNormalization",
    "Layout",
    "Matmul",
    "Mixing",
    "MultiHeadAttention",
    "NoRule",
    "Node",
    "PReLU",
    "PerChannel",
    "PlainAttention",
    "PointwiseActivation",
    "RMSNormalization",
    "Rebuilt",
    "Recurrent",
    "Reduction",
    "Rescaling",
    "ReversibleEmbedding",
    "Rule",
    "ScaledSum",
    "Select",
    "SeparableConv",
    "Sizes",
    "Spatial",
    "Standardized",
    "Tensor",
    "TransposedConv",
    "UnitNormalization",
    "Weights",
    "Zeros",
    "channel_axis",
    "count",
    "evaluate",
    "expand",
    "kept_along",
    "narrower",
    "on_axis",
    "passed_on",
    "pointwise",
    "register_rule",
    "rule_for",
]
