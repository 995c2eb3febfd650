"""Tasks of KerasHub at toy size, and its models of several inputs, with random weights.

Each has a head of its own: classes, boxes, masks, tokens, embeddings, noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from experiments.networks.hub import SIZE, STEPS, VISION, randomize
from experiments.networks.hub_images import (
    CLASSES,
    TOKEN_SIZES,
    backbone_of,
    basnet,
    cspnet,
    d_fine,
    deeplab,
    depth_anything,
    library,
    mobilenet_v5,
    retinanet,
    sam,
    segformer,
    xception,
)

_EXPERTS = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "num_experts": 3,
    "top_k": 2,
}


def _towers(kind: str) -> tuple[keras.Model, keras.Model]:
    models = library().models
    # Of 16 channels the patches of the image, which stay, would be a third of the cost.
    sizes = {"num_layers": 2, "num_heads": 4, "intermediate_dim": 256}
    width = 64
    vision = getattr(models, f"{kind}VisionEncoder")(
        patch_size=8, hidden_dim=width, image_shape=(SIZE, SIZE, 3), **sizes
    )
    text = getattr(models, f"{kind}TextEncoder")(
        embedding_dim=width,
        hidden_dim=width,
        max_sequence_length=STEPS,
        **TOKEN_SIZES,
        **sizes,
    )
    return vision, text


def _clip() -> keras.Model:
    vision, text = _towers("CLIP")
    return library().models.CLIPBackbone(vision, text, projection_dim=12)


def _siglip() -> keras.Model:
    return library().models.SigLIPBackbone(*_towers("SigLIP"))


def _flux() -> keras.Model:
    return library().models.FluxBackbone(
        input_channels=8,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=4,
        depth=2,
        depth_single_blocks=2,
        axes_dim=[2, 2, 4],
        theta=10_000,
        use_bias=True,
        image_shape=(STEPS, 8),
        text_shape=(STEPS, 12),
        image_ids_shape=(STEPS, 3),
        text_ids_shape=(STEPS, 3),
        y_shape=(12,),
    )


def _mmdit() -> keras.Model:
    """The denoiser of Stable Diffusion 3."""
    from keras_hub.src.models.stable_diffusion_3.mmdit import MMDiT

    return MMDiT(
        patch_size=2,
        hidden_dim=16,
        num_layers=2,
        num_heads=4,
        position_size=8,
        mlp_ratio=2.0,
        latent_shape=(8, 8, 4),
        context_shape=(STEPS, 12),
        pooled_projection_shape=(12,),
        qk_norm="rms_norm",
        dual_attention_indices=(0,),
    )


def _vae() -> keras.Model:
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    return VAEBackbone(
        encoder_num_filters=[32, 32],
        encoder_num_blocks=[1, 1],
        decoder_num_filters=[32, 32],
        decoder_num_blocks=[1, 1],
        sampler_method="mode",
        sample_channels=8,
    )


def _whisper() -> keras.Model:
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 24}
    return library().models.WhisperBackbone(
        num_mels=8,
        max_encoder_sequence_length=2 * STEPS,
        max_decoder_sequence_length=STEPS,
        **TOKEN_SIZES,
        **sizes,
    )


def _moonshine() -> keras.Model:
    models = library().models
    backbone = models.MoonshineBackbone(
        filter_dim=16,
        encoder_num_layers=2,
        decoder_num_layers=2,
        hidden_dim=16,
        intermediate_dim=24,
        encoder_num_heads=4,
        decoder_num_heads=4,
        **TOKEN_SIZES,
    )
    return models.MoonshineAudioToText(backbone=backbone)


def _pali_gemma() -> keras.Model:
    models = library().models
    backbone = models.PaliGemmaBackbone(
        image_size=SIZE,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=24,
        head_dim=4,
        vit_patch_size=8,
        vit_num_heads=4,
        vit_hidden_dim=16,
        vit_num_layers=2,
        vit_intermediate_dim=24,
        **TOKEN_SIZES,
    )
    return models.PaliGemmaCausalLM(backbone=backbone, preprocessor=None)


def _t5_gemma() -> keras.Model:
    models = library().models
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "hidden_dim": 16,
            "intermediate_dim": 24,
            "num_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 4,
            "layer_types": ["full_attention"] * 2,
        }.items()
    }
    backbone = models.T5GemmaBackbone(**TOKEN_SIZES, **sides)
    return models.T5GemmaSeq2SeqLM(backbone=backbone)


def _classifier(name: str) -> Callable[[], keras.Model]:
    kind = "Image" if name in VISION else "Text"

    def build() -> keras.Model:
        task = getattr(library().models, f"{name}{kind}Classifier")
        extra = {"preprocessor": None} if name == "HGNetV2" else {}
        return task(backbone=backbone_of(name), num_classes=CLASSES, **extra)

    return build


def _task(name: str, kind: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        return getattr(library().models, f"{name}{kind}")(backbone=backbone_of(name))

    return build


def _experts(name: str, **sizes: Any) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        backbone = getattr(library().models, f"{name}Backbone")(**TOKEN_SIZES, **sizes)
        return getattr(library().models, f"{name}CausalLM")(backbone=backbone)

    return build


TASKS: dict[str, Callable[[], keras.Model]] = {
    "RetinaNet detector": retinanet,
    "D-FINE detector": d_fine,
    "DeepLabV3 segmenter": deeplab,
    "SegFormer segmenter": segformer,
    "SAM segmenter": sam,
    "BASNet segmenter": basnet,
    "DepthAnything": depth_anything,
    "CLIP": _clip,
    "SigLIP": _siglip,
    "Flux": _flux,
    "Stable Diffusion 3 (MMDiT)": _mmdit,
    "VAE": _vae,
    "Whisper": _whisper,
    "Moonshine audio to text": _moonshine,
    "PaliGemma": _pali_gemma,
    "T5Gemma": _t5_gemma,
    "CSPNet classifier": cspnet,
    "Xception classifier": xception,
    "MobileNetV5 classifier": mobilenet_v5,
    "Mixtral": _experts("Mixtral", **_EXPERTS),
    "Qwen MoE": _experts(
        "QwenMoe",
        **_EXPERTS,
        moe_intermediate_dim=12,
        shared_expert_intermediate_dim=24,
    ),
    "Bert classifier": _classifier("Bert"),
    "Bert masked LM": _task("Bert", "MaskedLM"),
    "Albert masked LM": _task("Albert", "MaskedLM"),
    "FNet classifier": _classifier("FNet"),
    "Roberta classifier": _classifier("Roberta"),
    "DebertaV3 classifier": _classifier("DebertaV3"),
    "ESM masked LM": _task("ESM", "MaskedPLM"),
    "GPT2 LM": _task("GPT2", "CausalLM"),
    "Llama LM": _task("Llama", "CausalLM"),
    "Gemma LM": _task("Gemma", "CausalLM"),
    "Bloom LM": _task("Bloom", "CausalLM"),
    "Bart LM": _task("Bart", "Seq2SeqLM"),
    "ViT classifier": _classifier("ViT"),
    "DeiT classifier": _classifier("DeiT"),
    "MiT classifier": _classifier("MiT"),
    "Swin classifier": _classifier("SwinTransformer"),
    "EfficientNet classifier": _classifier("EfficientNet"),
    "MobileNet classifier": _classifier("MobileNet"),
    "HGNetV2 classifier": _classifier("HGNetV2"),
    "DenseNet classifier": _classifier("DenseNet"),
    "VGG classifier": _classifier("VGG"),
}
"""By its name, what builds it."""

_SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "SAM segmenter": {
        "points": (2, 2),
        "labels": (2,),
        "boxes": (1, 2, 2),
        "masks": (1, SIZE // 2, SIZE // 2, 1),
    },
    "Whisper": {"encoder_features": (2 * STEPS, 8)},
    "Moonshine audio to text": {
        "encoder_input_values": (1024, 1),
        "encoder_padding_mask": (1024,),
    },
}
"""Shapes of inputs that are not as long as the others."""


def build(name: str) -> keras.Model:
    """A task at toy size with random weights.

    Args:
        name: one of `TASKS`.

    Returns:
        A Functional model of inputs of fixed sizes.

    Raises:
        ModuleNotFoundError: keras-hub is not installed.
    """
    task = TASKS[name]()

    def fixed(x: keras.KerasTensor) -> keras.KerasTensor:
        length = SIZE if len(x.shape) == 4 else STEPS
        shape = tuple(length if size is None else size for size in x.shape[1:])
        shape = _SIZES.get(name, {}).get(x.name, shape)
        return keras.Input(shape, dtype=x.dtype, name=x.name)

    inputs = keras.tree.map_structure(fixed, task._inputs_struct)
    model = keras.Model(inputs, task(inputs), name=type(task).__name__)
    randomize(model)
    return model
