"""Backbones of KerasHub, most at toy size, each with a head, and random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

STEPS = 8
"""Tokens of a text."""
TOKENS = 50
SIZE = 32
"""Pixels of the side of an image."""

_TEXT = {"num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
_HEADS = _TEXT | {"num_heads": 4}
_GROUPED = _TEXT | {"num_query_heads": 4, "num_key_value_heads": 2}
# Of 16 channels the patches of the image, which stay, would be a third of the cost.
_VISION = {"patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 64}
_IMAGE = {"image_shape": (SIZE, SIZE, 3)}
_RESNET = {
    "input_conv_filters": [16],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 128],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_strides": [1, 2],
}

VISION: dict[str, dict[str, Any]] = {
    "ViT": _VISION | _IMAGE | {"mlp_dim": 256},
    "DeiT": _VISION | _IMAGE | {"intermediate_dim": 256},
    "DINOV2": _VISION
    | _IMAGE
    | {"intermediate_dim": 256, "position_embedding_shape": (SIZE, SIZE, 3)},
    "DINOV3": _VISION | _IMAGE | {"intermediate_dim": 256},
    "MiT": _IMAGE
    | {
        "layerwise_depths": [2, 2],
        "num_layers": 2,
        "layerwise_num_heads": [2, 4],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [16, 32],
    },
    "SwinTransformer": _IMAGE
    | {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    "ViTDet": _IMAGE
    | {
        "hidden_size": 16,
        "num_layers": 2,
        "intermediate_dim": 24,
        "num_heads": 4,
        "global_attention_layer_indices": [1],
        "patch_size": 8,
        "num_output_channels": 8,
        "window_size": 2,
    },
    "EfficientNet": {
        "input_shape": (SIZE, SIZE, 3),
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [2, 2],
        "stackwise_input_filters": [16, 16],
        "stackwise_output_filters": [16, 24],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["v1", "v1"],
        "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False],
    },
    # Of a quarter of the channels the first convolution would be half of the cost.
    "MobileNet": _IMAGE
    | {
        "stackwise_expansion": [[64, 128], [192]],
        "stackwise_num_blocks": [2, 1],
        "stackwise_num_filters": [[64, 64], [96]],
        "stackwise_kernel_size": [[3, 3], [5]],
        "stackwise_num_strides": [[2, 1], [1]],
        "stackwise_se_ratio": [[None, 0.25], [0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish"]],
        "stackwise_padding": [[1, 1], [2]],
        "output_num_filters": 256,
        "depthwise_filters": 32,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 192,
        "squeeze_and_excite": 0.5,
    },
    "HGNetV2": _IMAGE
    | {
        "depths": [1, 1],
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "stem_channels": [3, 8, 16],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [[16, 8, 16, 1, 3, 3], [16, 8, 32, 1, 3, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    },
    "DenseNet": _IMAGE | {"stackwise_num_repeats": [2, 2], "growth_rate": 8},
    "ResNet": _IMAGE | _RESNET | {"block_type": "bottleneck_block"},
    "ResNet vd": _IMAGE
    | _RESNET
    | {
        "input_conv_filters": [16, 16, 16],
        "input_conv_kernel_sizes": [3, 3, 3],
        "block_type": "basic_block_vd",
    },
    "VGG": _IMAGE | {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16]},
}

TEXT: dict[str, dict[str, Any]] = {
    "Bert": _HEADS,
    "DistilBert": _HEADS,
    "Roberta": _HEADS,
    "XLMRoberta": _HEADS,
    "Albert": _HEADS | {"embedding_dim": 12},
    "Electra": _HEADS | {"embedding_dim": 16},
    "DebertaV3": _HEADS,
    "RoformerV2": _HEADS | {"head_size": 4},
    "ESM": _HEADS,
    "FNet": _TEXT,
    "GPT2": _HEADS,
    "GPTNeoX": _TEXT | {"num_heads": 2},
    "Bloom": _HEADS,
    "OPT": _HEADS,
    "Falcon": _TEXT | {"num_attention_heads": 4},
    "Llama": _GROUPED,
    "Llama3": _GROUPED,
    "Mistral": _GROUPED,
    "Qwen": _GROUPED,
    "Qwen3": _GROUPED | {"head_dim": 4},
    "Gemma": _GROUPED | {"head_dim": 4},
    "Gemma3": _GROUPED | {"head_dim": 4, "image_size": SIZE},
    "Phi3": _GROUPED,
    "T5": _HEADS,
    "Bart": _HEADS,
}

NAMES = (*VISION, *TEXT)
"""The backbones."""


def build(name: str) -> keras.Model:
    """A backbone at toy size under a head of 5 logits, with random weights.

    Args:
        name: one of `NAMES`.

    Returns:
        A Functional model of inputs of fixed sizes.

    Raises:
        ModuleNotFoundError: keras-hub is not installed.
    """
    import keras_hub  # an extra: only these need it

    kind = getattr(keras_hub.models, f"{name.partition(' ')[0]}Backbone")
    if name in VISION:
        backbone = kind(**VISION[name])
        inputs: Any = keras.Input(backbone.inputs[0].shape[1:], name="images")
    else:
        sizes = {"vocab_size" if name == "Electra" else "vocabulary_size": TOKENS}
        backbone = kind(**sizes, **TEXT[name])
        inputs = {
            x.name: keras.Input((STEPS,), dtype="int32", name=x.name)
            for x in backbone.inputs
        }
    outputs = backbone(inputs)
    y = outputs if not isinstance(outputs, dict) else [*outputs.values()][-1]
    for layer in _POOLS.get(len(y.shape), lambda: [])():
        y = layer(y)
    model = keras.Model(inputs, layers.Dense(5, name="head")(y), name=kind.__name__)
    randomize(model)
    return model


def vit(
    depth: int = 12, width: int = 768, heads: int = 12, size: int = 224
) -> keras.Model:
    """A ViT with patches of 16 under 1,000 logits of its class token; ViT-B/16."""
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(size, size, 3),
        patch_size=16,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
    )
    images = keras.Input((size, size, 3), name="images")
    logits = layers.Dense(1000, name="head")(backbone(images)[:, 0])
    return keras.Model(images, logits, name="vit")


def segformer() -> keras.Model:
    """SegFormer-B2 for images of 512x512 and 150 classes (Xie et al., 2021)."""
    import keras_hub

    encoder = keras_hub.models.MiTBackbone(
        image_shape=(512, 512, 3),
        layerwise_depths=[3, 4, 6, 3],
        num_layers=4,
        layerwise_num_heads=[1, 2, 5, 8],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[64, 128, 320, 512],
    )
    backbone = keras_hub.models.SegFormerBackbone(encoder, projection_filters=768)
    images = keras.Input((512, 512, 3), name="images")
    logits = layers.Conv2D(150, 1, name="head")(backbone(images))
    return keras.Model(images, logits, name="segformer")


FULL_SIZE: dict[str, Callable[[], keras.Model]] = {
    "ViT-B/16": vit,
    "SegFormer-B2": segformer,
}
"""Backbones at the size that people use, with weights as Keras draws them."""

_POOLS: dict[int, Callable[[], list[layers.Layer]]] = {
    3: lambda: [layers.Flatten()],
    4: lambda: [layers.GlobalAveragePooling2D()],
}


def randomize(model: keras.Model) -> None:
    """Weights of which none is 0 or 1, as after training."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        shape, name = variable.shape, variable.path.split("/")[-1]
        if "variance" in name or name in ("gamma", "scale"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = rng.normal(0, 0.2, shape)
        else:
            value = rng.normal(0, 1, shape) * (2 / np.prod(shape[:-1])) ** 0.5
        variable.assign(value.astype("float32"))


def samples(model: keras.Model, count: int, seed: int) -> Any:
    """Random inputs of a model, in the structure that it takes.

    Inputs called masks say that the last two steps are padding.
    """
    rng = np.random.default_rng(seed)

    def draw(x: keras.KerasTensor) -> np.ndarray:
        shape = (count, *x.shape[1:])
        if "mask" in x.name and len(shape) == 2:
            return np.repeat(np.arange(shape[1])[None] < shape[1] - 2, count, 0).astype(
                x.dtype
            )
        if "segment" in x.name:
            return rng.integers(0, 2, shape, x.dtype)
        if "int" in x.dtype:
            return rng.integers(1, TOKENS, shape, x.dtype)
        return rng.uniform(0, 1, shape).astype(x.dtype)

    return keras.tree.map_structure(draw, model._inputs_struct)
