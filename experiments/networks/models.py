"""The networks of the experiments, by name.

All of them return logits: the last Dense layer has no activation.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import keras
from keras import KerasTensor, layers, ops

CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (8, 14, 20, 32, 44, 56, 110)}
IMAGENET_RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
VGG16_WIDTHS = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, filters, blocks and strides, with two reductions fewer than at 224x224."""

APPLICATIONS = {
    name.lower(): constructor
    for name, constructor in vars(keras.applications).items()
    if inspect.isfunction(constructor)
}


def names() -> list[str]:
    """Every name that `build` knows, sorted."""
    known = {*CIFAR_RESNETS, *IMAGENET_RESNETS, "vgg16_bn", "mobilenetv2_cifar"}
    return sorted({*known, *APPLICATIONS})


def build(
    name: str, *, input_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds a network with random weights.

    Args:
        name: `resnet8` to `resnet110` (the CIFAR family, 3x3 stem of 16 filters,
            parameter-free shortcuts), `vgg16_bn`, `resnet18` and `resnet34` (the
            ImageNet family), `mobilenetv2_cifar`, a constructor of
            `keras.applications` in any case, or the path of a `.keras` file, whose
            architecture gets new weights.
        input_shape: height, width and channels of one image.
        num_classes: number of logits.

    Returns:
        A Functional model from `(batch, height, width, channels)` to
        `(batch, num_classes)` logits.

    Raises:
        ValueError: if the name is unknown, the shape or the number of classes is not
            positive, or a file's network has another shape or number of classes.
        FileNotFoundError: if there is no such file.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            "`input_shape` must be three positive integers (height, width, channels). "
            f"Received: input_shape={input_shape}"
        )
    if num_classes < 2:
        raise ValueError(
            f"`num_classes` must be at least 2. Received: num_classes={num_classes}"
        )
    if name.endswith(".keras"):
        return _from_file(Path(name), tuple(input_shape), num_classes)
    name = name.lower()
    if name in APPLICATIONS:
        return APPLICATIONS[name](
            weights=None,
            input_shape=input_shape,
            classes=num_classes,
            classifier_activation=None,
        )
    image = keras.Input(input_shape, name="image")
    if name in CIFAR_RESNETS:
        features = _cifar_resnet(image, CIFAR_RESNETS[name])
    elif name in IMAGENET_RESNETS:
        features = _imagenet_resnet(image, IMAGENET_RESNETS[name])
    elif name == "vgg16_bn":
        features = _vgg16_bn(image)
    elif name == "mobilenetv2_cifar":
        features = _cifar_mobilenetv2(image)
    else:
        raise ValueError(
            f"Unknown network. Known: {', '.join(names())}. Received: name={name!r}"
        )
    logits = layers.Dense(num_classes, name="classifier")(features)
    return keras.Model(image, logits, name=name)


def _from_file(
    path: Path, input_shape: tuple[int, ...], num_classes: int
) -> keras.Model:
    if not path.is_file():
        raise FileNotFoundError(
            f"`name` must be a .keras file. Received: name='{path}'"
        )
    # A clone is built from the configuration: its weights are drawn anew.
    model = keras.models.clone_model(keras.saving.load_model(path, compile=False))
    shapes = (model.input_shape[1:], model.output_shape[1:])
    if shapes != (input_shape, (num_classes,)):
        raise ValueError(
            f"The network in {path} goes from {shapes[0]} to {shapes[1]}, "
            f"the data from {input_shape} to {(num_classes,)}."
        )
    return model


def conv_bn(
    x: KerasTensor, filters: int, size: int, name: str, *, strides: int = 1
) -> KerasTensor:
    """Convolution without bias, then BatchNorm; the names share a stem."""
    x = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def conv_bn_relu(
    x: KerasTensor, filters: int, size: int, name: str, *, strides: int = 1
) -> KerasTensor:
    """The same with a ReLU behind it."""
    x = conv_bn(x, filters, size, name, strides=strides)
    return layers.ReLU(name=f"{name}_relu")(x)


def residual_block(
    x: KerasTensor, shortcut: KerasTensor, filters: int, name: str, *, strides: int
) -> KerasTensor:
    """Two 3x3 convolutions whose sum with the shortcut goes through a ReLU."""
    y = conv_bn_relu(x, filters, 3, f"{name}_1", strides=strides)
    y = conv_bn(y, filters, 3, f"{name}_2")
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_relu")(y)


def _cifar_resnet(image: KerasTensor, depth: int) -> KerasTensor:
    """He et al. 2016, section 4.2: 6n + 2 layers, shortcuts without parameters."""
    x = conv_bn_relu(image, 16, 3, "stem")
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if strides == 2:
                new_channels = filters - x.shape[-1]
                shortcut = x[:, ::2, ::2, :]
                shortcut = ops.pad(
                    shortcut, ((0, 0), (0, 0), (0, 0), (0, new_channels))
                )
            x = residual_block(
                x, shortcut, filters, f"stage{stage}_block{block}", strides=strides
            )
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _imagenet_resnet(image: KerasTensor, blocks: tuple[int, ...]) -> KerasTensor:
    """He et al. 2016, table 1: basic blocks, 1x1 convolutions where widths change."""
    x = conv_bn_relu(image, 64, 7, "stem", strides=2)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, count in enumerate(blocks, start=1):
        filters = 32 * 2**stage
        for block in range(1, count + 1):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if x.shape[-1] != filters:
                shortcut = conv_bn(x, filters, 1, f"{name}_shortcut", strides=strides)
            x = residual_block(x, shortcut, filters, name, strides=strides)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _vgg16_bn(image: KerasTensor) -> KerasTensor:
    """VGG-16 with BatchNorm as used on CIFAR: one hidden Dense layer of 512."""
    x = image
    for stage, widths in enumerate(VGG16_WIDTHS, start=1):
        for index, filters in enumerate(widths, start=1):
            x = conv_bn_relu(x, filters, 3, f"stage{stage}_{index}")
        x = layers.MaxPooling2D(2, padding="same", name=f"stage{stage}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="hidden_bn")(x)
    return layers.ReLU(name="hidden_relu")(x)


def _cifar_mobilenetv2(image: KerasTensor) -> KerasTensor:
    """Sandler et al. 2018, table 2, for images of 32x32: strides of 1 up to stage 2."""
    x = _conv_bn_relu6(image, 32, 3, "stem")
    for stage, (expansion, filters, count, strides) in enumerate(MOBILENET_STAGES, 1):
        for block in range(1, count + 1):
            name = f"stage{stage}_block{block}"
            stride = strides if block == 1 else 1
            y, width = x, x.shape[-1]
            if expansion > 1:
                y = _conv_bn_relu6(y, expansion * width, 1, f"{name}_expand")
            y = layers.DepthwiseConv2D(
                3,
                strides=stride,
                padding="same",
                use_bias=False,
                depthwise_initializer="he_normal",
                name=f"{name}_depthwise",
            )(y)
            y = layers.BatchNormalization(momentum=0.9, name=f"{name}_depthwise_bn")(y)
            y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
            y = conv_bn(y, filters, 1, f"{name}_project")
            if stride == 1 and filters == width:
                y = layers.Add(name=f"{name}_add")([x, y])
            x = y
    x = _conv_bn_relu6(x, 1280, 1, "top")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _conv_bn_relu6(x: KerasTensor, filters: int, size: int, name: str) -> KerasTensor:
    x = conv_bn(x, filters, size, name)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
