"""A ViT, a ConvNeXt and a ResNet for small images whose widths are arguments.

So the same architecture can be built wide, to be pruned, and narrow, to be held against
what pruning leaves of the wide one.
"""

from __future__ import annotations

import keras
from keras import KerasTensor, layers

from experiments.networks import models
from experiments.networks.written import PatchEncoder


def vit(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    patch: int = 4,
    depth: int = 6,
    width: int = 96,
    heads: int = 6,
    head_size: int = 16,
    hidden: int = 192,
    dropout: float = 0.0,
) -> keras.Model:
    """A vision transformer with a class token, and the mean of all tokens at its end.

    Args:
        input_shape: height, width and channels of an image.
        num_classes: number of logits.
        patch: edge of a patch in pixels.
        depth: how many blocks.
        width: channels of a token.
        heads: attention heads of a block.
        head_size: channels of a head.
        hidden: neurons between a block's last two Dense layers.
        dropout: of what each half of a block adds to the tokens.

    Returns:
        A Functional model to logits.
    """
    image = keras.Input(input_shape, name="image")
    x = PatchEncoder(patch, width, name="patches")(image)
    for number in range(depth):
        name = f"block{number}"
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
        attention = layers.MultiHeadAttention(
            heads, head_size, name=f"{name}_attention", output_shape=(width,)
        )
        y = layers.Dropout(dropout, name=f"{name}_drop1")(attention(y, y))
        x = layers.Add(name=f"{name}_add1")([x, y])
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
        y = layers.Dense(hidden, activation="gelu", name=f"{name}_grow")(y)
        y = layers.Dense(width, name=f"{name}_shrink")(y)
        y = layers.Dropout(dropout, name=f"{name}_drop2")(y)
        x = layers.Add(name=f"{name}_add2")([x, y])
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(image, layers.Dense(num_classes, name="classes")(x), name="vit")


def convnext(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    depths: tuple[int, ...] = (2, 2, 2),
    widths: tuple[int, ...] = (32, 64, 128),
    growth: int = 4,
    hidden: tuple[int, ...] | None = None,
) -> keras.Model:
    """A ConvNeXt (Liu et al., CVPR 2022) with a stem of 2x2 and 7x7 depthwise kernels.

    Args:
        input_shape: height, width and channels of an image.
        num_classes: number of logits.
        depths: how many blocks each stage has.
        widths: channels of each stage.
        growth: how many times wider a block is between its last two layers.
        hidden: these widths themselves, a number for each stage, instead of `growth`.

    Returns:
        A Functional model to logits.
    """
    image = keras.Input(input_shape, name="image")
    x = image
    hidden = hidden or tuple(growth * width for width in widths)
    stages = zip(depths, widths, hidden, strict=True)
    for stage, (depth, width, inner) in enumerate(stages):
        if stage:
            x = layers.LayerNormalization(epsilon=1e-6, name=f"stage{stage}_norm")(x)
        x = layers.Conv2D(width, 2, strides=2, name=f"stage{stage}_down")(x)
        if not stage:
            x = layers.LayerNormalization(epsilon=1e-6, name="stem_norm")(x)
        for block in range(depth):
            x = _convnext_block(x, inner, f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    logits = layers.Dense(num_classes, name="classes")(x)
    return keras.Model(image, logits, name="convnext")


def _convnext_block(x: KerasTensor, hidden: int, name: str) -> KerasTensor:
    width = x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(y)
    y = layers.Dense(hidden, activation="gelu", name=f"{name}_grow")(y)
    y = layers.Dense(width, name=f"{name}_shrink")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def resnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    blocks: int = 1,
) -> keras.Model:
    """A ResNet (He et al., CVPR 2016) with 1x1 convolutions where widths change.

    Args:
        input_shape: height, width and channels of an image.
        num_classes: number of logits.
        widths: filters of each stage; the stem has those of the first.
        blocks: how many blocks of two 3x3 convolutions a stage has.

    Returns:
        A Functional model to logits.
    """
    image = keras.Input(input_shape, name="image")
    x = models.conv_bn_relu(image, widths[0], 3, "stem")
    for stage, width in enumerate(widths):
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage > 0 and block == 0 else 1
            shortcut = x
            if strides == 2:
                shortcut = models.conv_bn(
                    x, width, 1, f"{name}_shortcut", strides=strides
                )
            x = models.residual_block(x, shortcut, width, name, strides=strides)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(num_classes, name="classes")(x)
    return keras.Model(image, logits, name="resnet")
