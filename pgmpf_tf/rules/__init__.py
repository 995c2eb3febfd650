"""One rule per kind of layer or operation, and the registry that finds them.

To teach pgmpf_tf a layer type is one line here (or `register_rule` outside).
"""

from __future__ import annotations

import keras
from keras import layers
from keras.src.applications import convnext, inception_resnet_v2

from pgmpf_tf.channels.folding import Select
from pgmpf_tf.channels.graph import Cast
from pgmpf_tf.rules import moves
from pgmpf_tf.rules.base import Barrier, Call, Rule, Supposition
from pgmpf_tf.rules.elementwise import (
    Activation,
    Elementwise,
    Identity,
    PReLU,
    Rescaling,
)
from pgmpf_tf.rules.joins import (
    DIFFERENCE,
    MAXIMUM,
    MINIMUM,
    PRODUCT,
    QUOTIENT,
    SUM,
    Average,
    Concatenate,
    ScaledSum,
)
from pgmpf_tf.rules.mixing import EinsumDense, Mixing, SeparableConv
from pgmpf_tf.rules.per_channel import BatchNormalization, DepthwiseConv, PerChannel
from pgmpf_tf.rules.spatial import Reduction, Spatial

_RULES: dict[type, Rule] = {
    layers.Dense: Mixing("units"),
    layers.EinsumDense: EinsumDense(),
    layers.BatchNormalization: BatchNormalization(),
    layers.PReLU: PReLU(),
    layers.Activation: Activation(),
    layers.Rescaling: Rescaling(),
    layers.Add: SUM,
    layers.Subtract: DIFFERENCE,
    layers.Multiply: PRODUCT,
    layers.Maximum: MAXIMUM,
    layers.Minimum: MINIMUM,
    layers.Average: Average(),
    layers.Concatenate: Concatenate(),
    layers.Flatten: moves.FLATTEN,
    layers.Reshape: moves.RESHAPE_LAYER,
    layers.Permute: moves.Move(moves.permute),
    layers.RepeatVector: moves.Move(moves.repeat_vector),
    layers.Resizing: Spatial(),
    convnext.LayerScale: PerChannel("gamma"),
    inception_resnet_v2.CustomScaleLayer: ScaledSum(),
    Cast: Identity(),
    Select: moves.Selection(),
}
_RULES |= {getattr(layers, f"Conv{n}D"): Mixing("filters") for n in (1, 2, 3)}
_RULES |= {
    getattr(layers, f"Conv{n}DTranspose"): Mixing("filters", "kernel", -1, -2)
    for n in (1, 2, 3)
}
_RULES |= {getattr(layers, f"DepthwiseConv{n}D"): DepthwiseConv() for n in (1, 2)}
_RULES |= {getattr(layers, f"SeparableConv{n}D"): SeparableConv() for n in (1, 2)}
_RULES |= {
    getattr(layers, f"{kind}{n}D"): Spatial()
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
    "TrueDivide": QUOTIENT,
    "Maximum": MAXIMUM,
    "Minimum": MINIMUM,
    "Concatenate": Concatenate(),
    "Reshape": moves.RESHAPE,
    "Transpose": moves.Move(moves.transpose),
    "Swapaxes": moves.Move(moves.swapaxes),
    "Moveaxis": moves.Move(moves.moveaxis),
    "ExpandDims": moves.Move(moves.expand_dims),
    "Squeeze": moves.Squeeze(),
    "Flip": moves.Move(moves.flip),
    "Repeat": moves.Move(moves.repeat),
    "Split": moves.Split(),
    "GetItem": moves.GetItem(),
    "Pad": moves.Pad(),
    "Cast": Identity(),
    "StopGradient": Identity(),
}
_OPERATIONS |= {name: Reduction() for name in ("Mean", "Sum", "Max", "Min")}
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
_OPERATIONS |= {
    name: Elementwise()
    for name in [
        "Abs",
        "Absolute",
        "Arctan",
        "Celu",
        "Clip",
        "Cos",
        "Elu",
        "Exp",
        "Expm1",
        "Gelu",
        "HardShrink",
        "HardSigmoid",
        "HardSilu",
        "HardTanh",
        "LeakyRelu",
        "Log1p",
        "LogSigmoid",
        "Negative",
        "Relu",
        "Relu6",
        "Rsqrt",
        "Selu",
        "Sigmoid",
        "Sign",
        "Silu",
        "Sin",
        "SoftShrink",
        "Softplus",
        "Softsign",
        "SparsePlus",
        "SparseSigmoid",
        "Sqrt",
        "Square",
        "Squareplus",
        "Tanh",
        "TanhShrink",
        "Threshold",
    ]
}
_BARRIER = Barrier()


def register_rule(layer: type[keras.layers.Layer], rule: Rule) -> None:
    """Tell pgmpf_tf how channels flow through a layer of your own.

    ```python
    pgmpf_tf.register_rule(MySwish, pgmpf_tf.rules.Elementwise())
    pgmpf_tf.register_rule(MyScale, pgmpf_tf.rules.PerChannel("scale"))
    ```

    The rule holds for the class and for subclasses that inherit its `call`.

    Args:
        layer: the layer class.
        rule: an instance of one of `pgmpf_tf.rules`, or of a subclass of
            `pgmpf_tf.rules.Rule`.

    Raises:
        TypeError: not a layer class, or not a rule.
    """
    if not (isinstance(layer, type) and issubclass(layer, keras.Operation)):
        raise TypeError(f"layer must be a keras layer class. Received: layer={layer!r}")
    if not isinstance(rule, Rule):
        raise TypeError(
            "rule must be an instance of pgmpf_tf.rules.Rule (Elementwise(), "
            f"PerChannel(...), ...). Received: rule={rule!r}"
        )
    _RULES[layer] = rule


def rule_for(operation: keras.Operation) -> Rule:
    """The rule of an operation; a barrier if there is none.

    A subclass shares its parent's rule only if it also shares its parent's `call`.
    """
    kind = type(operation)
    for parent in kind.__mro__:
        if parent in _RULES:
            return _RULES[parent] if kind.call is parent.call else _BARRIER
    if kind.__module__.startswith("keras.src.ops."):
        return _OPERATIONS.get(kind.__name__, _BARRIER)
    return _BARRIER


__all__ = [
    "Activation",
    "Average",
    "Barrier",
    "BatchNormalization",
    "Call",
    "Concatenate",
    "DepthwiseConv",
    "EinsumDense",
    "Elementwise",
    "Identity",
    "Mixing",
    "PReLU",
    "PerChannel",
    "Reduction",
    "Rescaling",
    "Rule",
    "ScaledSum",
    "SeparableConv",
    "Spatial",
    "Supposition",
    "register_rule",
    "rule_for",
]
