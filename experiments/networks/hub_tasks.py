"""Tasks of KerasHub at toy size, and its models of several inputs, with random weights.

Each has a head of its own: classes, boxes, masks, tokens, embeddings, noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from experiments.networks.hub import SIZE, STEPS, TEXT, TOKENS, VISION, randomize

CLASSES = 5
_TOKEN_SIZES = {"vocabulary_size": TOKENS}
_PYRAMID = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 32, 48, 64],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
}
_EXPERTS = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "num_experts": 3,
    "top_k": 2,
}


def _hub() -> Any:
    import keras_hub  # an extra: only these need it

    return keras_hub


def _backbone(name: str, **options: Any) -> keras.Model:
    kind = getattr(_hub().models, f"{name}Backbone")
    if name in VISION:
        return kind(**VISION[name] | options)
    return kind(**_TOKEN_SIZES | TEXT[name] | options)


def _resnet(size: int | None) -> keras.Model:
    kind = _hub().models.ResNetBackbone
    return kind(image_shape=(size, size, 3), **_PYRAMID)


def _hgnet(size: int) -> keras.Model:
    return _hub().models.HGNetV2Backbone(
        stem_channels=[3, 8, 16],
        stackwise_stage_filters=[
            [16, 8, 16, 1, 3, 3],
            [16, 8, 24, 1, 3, 3],
            [24, 8, 32, 1, 3, 5],
            [32, 8, 48, 1, 3, 5],
        ],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 48],
        embedding_size=16,
        use_learnable_affine_block=False,
        hidden_act="relu",
        image_shape=(size, size, 3),
        out_features=["stage3", "stage4"],
    )


def _retinanet() -> keras.Model:
    models = _hub().models
    backbone = models.RetinaNetBackbone(
        image_encoder=_resnet(64),
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    return models.RetinaNetObjectDetector(
        backbone=backbone,
        num_classes=CLASSES,
        bounding_box_format="yxyx",
        pre_logits_num_conv_layers=2,
    )


def _d_fine() -> keras.Model:
    models, size = _hub().models, 64
    backbone = models.DFineBackbone(
        backbone=_hgnet(size),
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=0,
        num_labels=CLASSES,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=6,
        anchor_image_size=(size, size),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[32, 48],
        encode_proj_layers=[1],
        num_attention_heads=4,
        encoder_ffn_dim=24,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=24,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage3", "stage4"],
        image_shape=(size, size, 3),
        seed=0,
    )
    return models.DFineObjectDetector(backbone=backbone, num_classes=CLASSES)


def _deeplab() -> keras.Model:
    models = _hub().models
    backbone = models.DeepLabV3Backbone(
        image_encoder=_resnet(64),
        projection_filters=16,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[1, 2],
        image_shape=(64, 64, 3),
    )
    return models.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=CLASSES)


def _segformer() -> keras.Model:
    models = _hub().models
    encoder = models.MiTBackbone(
        image_shape=(64, 64, 3),
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        layerwise_num_heads=[2, 2, 4, 4],
        layerwise_sr_ratios=[4, 2, 1, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[8, 16, 24, 32],
    )
    backbone = models.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
    return models.SegFormerImageSegmenter(backbone=backbone, num_classes=CLASSES)


def _sam() -> keras.Model:
    hub = _hub()
    backbone = hub.models.SAMBackbone(
        image_encoder=_backbone("ViTDet"),
        prompt_encoder=hub.layers.SAMPromptEncoder(
            hidden_size=8,
            image_embedding_size=(SIZE // 8, SIZE // 8),
            input_image_size=(SIZE, SIZE),
            mask_in_channels=16,
        ),
        mask_decoder=hub.layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=8,
            intermediate_dim=24,
            num_heads=4,
            embedding_dim=8,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )
    return hub.models.SAMImageSegmenter(backbone=backbone)


def _basnet() -> keras.Model:
    models = _hub().models
    backbone = models.BASNetBackbone(
        _resnet(None), num_classes=1, image_shape=(64, 64, 3), projection_filters=64
    )
    return models.BASNetImageSegmenter(backbone)


def _depth_anything() -> keras.Model:
    models = _hub().models
    backbone = models.DepthAnythingBackbone(
        image_encoder=_backbone(
            "DINOV2",
            num_layers=4,
            image_shape=(64, 64, 3),
            position_embedding_shape=(64, 64, 3),
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[8, 8, 16, 16],
        fusion_hidden_dim=8,
        head_hidden_dim=8,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )
    return models.DepthAnythingDepthEstimator(backbone=backbone)


def _towers(kind: str) -> tuple[keras.Model, keras.Model]:
    models = _hub().models
    sizes = {"num_layers": 2, "num_heads": 4, "intermediate_dim": 24}
    width = 16
    vision = getattr(models, f"{kind}VisionEncoder")(
        patch_size=8, hidden_dim=width, image_shape=(SIZE, SIZE, 3), **sizes
    )
    text = getattr(models, f"{kind}TextEncoder")(
        embedding_dim=width,
        hidden_dim=width,
        max_sequence_length=STEPS,
        **_TOKEN_SIZES,
        **sizes,
    )
    return vision, text


def _clip() -> keras.Model:
    vision, text = _towers("CLIP")
    return _hub().models.CLIPBackbone(vision, text, projection_dim=12)


def _siglip() -> keras.Model:
    return _hub().models.SigLIPBackbone(*_towers("SigLIP"))


def _flux() -> keras.Model:
    return _hub().models.FluxBackbone(
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
    return _hub().models.WhisperBackbone(
        num_mels=8,
        max_encoder_sequence_length=2 * STEPS,
        max_decoder_sequence_length=STEPS,
        **_TOKEN_SIZES,
        **sizes,
    )


def _moonshine() -> keras.Model:
    models = _hub().models
    backbone = models.MoonshineBackbone(
        filter_dim=16,
        encoder_num_layers=2,
        decoder_num_layers=2,
        hidden_dim=16,
        intermediate_dim=24,
        encoder_num_heads=4,
        decoder_num_heads=4,
        **_TOKEN_SIZES,
    )
    return models.MoonshineAudioToText(backbone=backbone)


def _pali_gemma() -> keras.Model:
    models = _hub().models
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
        **_TOKEN_SIZES,
    )
    return models.PaliGemmaCausalLM(backbone=backbone, preprocessor=None)


def _t5_gemma() -> keras.Model:
    models = _hub().models
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
    backbone = models.T5GemmaBackbone(**_TOKEN_SIZES, **sides)
    return models.T5GemmaSeq2SeqLM(backbone=backbone)


def _cspnet() -> keras.Model:
    models = _hub().models
    backbone = models.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type="dark",
        bottle_ratio=[0.5],
        image_shape=(SIZE, SIZE, 3),
    )
    return models.CSPNetImageClassifier(backbone=backbone, num_classes=CLASSES)


def _xception() -> keras.Model:
    models = _hub().models
    backbone = models.XceptionBackbone(
        stackwise_conv_filters=[[16, 24], [24, 32], [48, 64]],
        stackwise_pooling=[True, True, False],
        image_shape=(SIZE, SIZE, 3),
    )
    return models.XceptionImageClassifier(backbone=backbone, num_classes=CLASSES)


def _mobilenet_v5() -> keras.Model:
    models = _hub().models
    kinds = [["er"], ["uir", "uir"], ["mqa"]]

    def every(**values: Any) -> list[list[Any]]:
        return [[values.get(kind, 0) for kind in stage] for stage in kinds]

    backbone = models.MobileNetV5Backbone(
        stackwise_block_types=kinds,
        stackwise_num_blocks=[1, 2, 1],
        stackwise_num_filters=[[16], [24, 24], [24]],
        stackwise_strides=[[2], [2, 1], [1]],
        stackwise_act_layers=[["relu"], ["relu", "relu"], ["relu"]],
        stackwise_exp_ratios=every(er=2.0, uir=2.0),
        stackwise_se_ratios=every(),
        stackwise_dw_kernel_sizes=every(uir=5, mqa=3),
        stackwise_dw_start_kernel_sizes=every(),
        stackwise_dw_end_kernel_sizes=every(),
        stackwise_exp_kernel_sizes=every(er=3),
        stackwise_pw_kernel_sizes=every(er=1),
        stackwise_num_heads=every(mqa=4),
        stackwise_key_dims=every(mqa=8),
        stackwise_value_dims=every(mqa=8),
        stackwise_kv_strides=every(mqa=1),
        stackwise_use_cpe=[[False], [False, False], [False]],
        use_msfa=False,
        image_shape=(SIZE, SIZE, 3),
    )
    return models.MobileNetV5ImageClassifier(backbone=backbone, num_classes=CLASSES)


def _classifier(name: str) -> Callable[[], keras.Model]:
    kind = "Image" if name in VISION else "Text"

    def build() -> keras.Model:
        task = getattr(_hub().models, f"{name}{kind}Classifier")
        extra = {"preprocessor": None} if name == "HGNetV2" else {}
        return task(backbone=_backbone(name), num_classes=CLASSES, **extra)

    return build


def _task(name: str, kind: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        return getattr(_hub().models, f"{name}{kind}")(backbone=_backbone(name))

    return build


def _experts(name: str, **sizes: Any) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        backbone = getattr(_hub().models, f"{name}Backbone")(**_TOKEN_SIZES, **sizes)
        return getattr(_hub().models, f"{name}CausalLM")(backbone=backbone)

    return build


TASKS: dict[str, Callable[[], keras.Model]] = {
    "RetinaNet detector": _retinanet,
    "D-FINE detector": _d_fine,
    "DeepLabV3 segmenter": _deeplab,
    "SegFormer segmenter": _segformer,
    "SAM segmenter": _sam,
    "BASNet segmenter": _basnet,
    "DepthAnything": _depth_anything,
    "CLIP": _clip,
    "SigLIP": _siglip,
    "Flux": _flux,
    "Stable Diffusion 3 (MMDiT)": _mmdit,
    "VAE": _vae,
    "Whisper": _whisper,
    "Moonshine audio to text": _moonshine,
    "PaliGemma": _pali_gemma,
    "T5Gemma": _t5_gemma,
    "CSPNet classifier": _cspnet,
    "Xception classifier": _xception,
    "MobileNetV5 classifier": _mobilenet_v5,
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
