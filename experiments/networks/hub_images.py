"""Tasks of KerasHub on images at toy size: detectors, segmenters and classifiers."""

from __future__ import annotations

from typing import Any

import keras

from experiments.networks.hub import SIZE, TEXT, TOKENS, VISION

CLASSES = 5
TOKEN_SIZES = {"vocabulary_size": TOKENS}
_PYRAMID = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 32, 48, 64],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
}


def library() -> Any:
    """KerasHub, which only these need."""
    import keras_hub  # an extra

    return keras_hub


def backbone_of(name: str, **options: Any) -> keras.Model:
    """A backbone of `hub.VISION` or `hub.TEXT` by its name, with other options."""
    kind = getattr(library().models, f"{name}Backbone")
    if name in VISION:
        return kind(**VISION[name] | options)
    return kind(**TOKEN_SIZES | TEXT[name] | options)


def _resnet(size: int | None) -> keras.Model:
    kind = library().models.ResNetBackbone
    return kind(image_shape=(size, size, 3), **_PYRAMID)


def _hgnet(size: int) -> keras.Model:
    return library().models.HGNetV2Backbone(
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


def retinanet() -> keras.Model:
    """A detector whose boxes come from a pyramid."""
    models = library().models
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


def d_fine() -> keras.Model:
    """A detector with queries."""
    models, size = library().models, 64
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


def deeplab() -> keras.Model:
    """A segmenter with dilated convolutions."""
    models = library().models
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


def segformer() -> keras.Model:
    """A segmenter of transformer blocks."""
    models = library().models
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


def sam() -> keras.Model:
    """A segmenter that is prompted by points, boxes and masks."""
    hub = library()
    backbone = hub.models.SAMBackbone(
        image_encoder=backbone_of("ViTDet"),
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


def basnet() -> keras.Model:
    """A segmenter that refines its first guess."""
    models = library().models
    backbone = models.BASNetBackbone(
        _resnet(None), num_classes=1, image_shape=(64, 64, 3), projection_filters=64
    )
    return models.BASNetImageSegmenter(backbone)


def depth_anything() -> keras.Model:
    """An estimator of depths."""
    models = library().models
    backbone = models.DepthAnythingBackbone(
        image_encoder=backbone_of(
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
    return models.DepthAnythingDepthEstimator(backbone, "relative")


def cspnet() -> keras.Model:
    """A classifier whose stages split and join channels."""
    models = library().models
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


def xception() -> keras.Model:
    """A classifier of separable convolutions."""
    models = library().models
    backbone = models.XceptionBackbone(
        stackwise_conv_filters=[[16, 24], [24, 32], [48, 64]],
        stackwise_pooling=[True, True, False],
        image_shape=(SIZE, SIZE, 3),
    )
    return models.XceptionImageClassifier(backbone=backbone, num_classes=CLASSES)


def mobilenet_v5() -> keras.Model:
    """A classifier of inverted residuals and attention."""
    models = library().models
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
