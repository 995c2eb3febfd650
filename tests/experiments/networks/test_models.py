import keras
import numpy as np
import pytest

import pgmpf_tf
from experiments.networks import models


def convolution_macs(model):
    """Counted from the built layers: output positions times kernel entries."""
    return sum(
        int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet20", 40_550_400),
        ("resnet32", 68_861_952),
        ("resnet56", 125_485_056),
        ("resnet110", 252_887_040),
    ],
)
def test_cifar_resnets_have_the_published_macs(name, macs):
    model = models.build(name, input_shape=(32, 32, 3), num_classes=10)
    assert convolution_macs(model) == macs
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) + 1 == int(name.removeprefix("resnet"))
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet18", 11_689_512), ("resnet34", 21_797_672)]
)
def test_imagenet_resnets_have_the_well_known_parameter_counts(name, parameters):
    model = models.build(name, input_shape=(64, 64, 3), num_classes=1000)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == parameters


def test_the_mobilenet_for_small_images_differs_in_strides_alone():
    shape = (32, 32, 3)
    small = models.build("mobilenetv2_cifar", input_shape=shape, num_classes=10)
    usual = models.build("mobilenetv2", input_shape=shape, num_classes=10)
    # The usual one's layers may have other names; its weights come in the same order.
    assert [w.shape for w in small.weights] == [w.shape for w in usual.weights]
    assert small.get_layer("top_relu").output.shape == (None, 4, 4, 1280)
    assert usual.get_layer("out_relu").output.shape == (None, 1, 1, 1280)


@pytest.mark.parametrize("name", ["resnet8", "vgg16_bn", "resnet18", "MobileNetV2"])
def test_a_network_gives_logits_and_survives_saving(name, tmp_path):
    model = models.build(name, input_shape=(33, 32, 1), num_classes=7)
    x = np.random.default_rng(0).normal(size=(2, 33, 32, 1)).astype("float32")
    logits = model(x, training=False)
    assert logits.shape == (2, 7)
    assert not np.allclose(np.sum(logits, axis=-1), 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits, loaded(x, training=False))


def test_the_shortcut_subsamples_and_pads_with_zeros():
    model = models.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    before = model.get_layer("stage1_block1_relu").output
    shortcut = model.get_layer("stage2_block1_add").input[0]
    probe = keras.Model(model.input, [before, shortcut])
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    wide, narrow = probe.predict(x, verbose=0)
    np.testing.assert_array_equal(narrow[..., :16], wide[:, ::2, ::2])
    assert narrow.shape == (2, 4, 4, 32)
    assert not narrow[..., 16:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet21"}, "name='resnet21'"),
        ({"input_shape": (32, 0, 3)}, r"input_shape=\(32, 0, 3\)"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    good = {"name": "resnet8", "input_shape": (8, 8, 1), "num_classes": 10}
    with pytest.raises(ValueError, match=message):
        models.build(**(good | arguments))


def test_an_architecture_from_a_file_gets_new_weights(tmp_path):
    shape = {"input_shape": (8, 8, 1), "num_classes": 10}
    path = str(tmp_path / "small.keras")
    pruned = pgmpf_tf.wrap(models.build("resnet8", **shape), rate=0.5)
    pruned.apply_masks()
    small = pgmpf_tf.compact(pruned)
    small.save(path)
    fresh, other = models.build(path, **shape), models.build(path, **shape)
    assert pgmpf_tf.profile(fresh).macs == pgmpf_tf.profile(small).macs
    for model in (small, other):
        kernel = model.get_layer("stem_conv").kernel.numpy()
        assert not np.allclose(fresh.get_layer("stem_conv").kernel, kernel)
    with pytest.raises(ValueError, match=r"goes from \(8, 8, 1\) to \(10,\)"):
        models.build(path, input_shape=(8, 8, 3), num_classes=10)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        models.build("nowhere.keras", **shape)
