"""Architectures of keras.applications, pruned by half, small equal to masked.

One of each family by default, the smallest, unless others have its parts; all of them
are the slow set.
"""

import functools
import gc
import subprocess
import sys

import keras
import numpy as np
import pytest

import pgmpf_tf
from experiments.networks import applications

CLASSES = 7
TOLERANCE = 1e-5  # of the largest output
# What a family repeats in other depths and widths, its smallest member has as well.
FAMILIES = {
    "ConvNeXt": "ConvNeXtTiny",
    "DenseNet": "DenseNet121",
    "EfficientNetB": "EfficientNetB0",
    "EfficientNetV2": "EfficientNetV2B0",
    "InceptionResNetV2": "InceptionResNetV2",
    "InceptionV3": "InceptionV3",
    "MobileNet": "MobileNet",
    "MobileNetV2": "MobileNetV2",
    "MobileNetV3": "MobileNetV3Small",
    "NASNet": "NASNetMobile",
    "ResNet": "ResNet50",
    "ResNetV2": "ResNet50V2",
    "VGG": "VGG16",
    "Xception": "Xception",
}
# Inception's branches and ResNet's additions; EfficientNetV2's blocks.
FROM_PARTS_OF_OTHERS = {"InceptionResNetV2", "EfficientNetB0"}
# The couplings differ at additions only: these have none, or MobileNetV2's.
ONE_COUPLING = {"DenseNet121", "InceptionV3", "MobileNet", "VGG16"}
ONE_COUPLING |= {"EfficientNetV2B0", "MobileNetV3Small"}


def case(name, coupling):
    by_default = set(FAMILIES.values()) - FROM_PARTS_OF_OTHERS
    same = coupling == "independent" and name in ONE_COUPLING
    slow = name not in by_default or same
    return pytest.param(name, coupling, marks=pytest.mark.slow if slow else ())


def build(name):
    model = applications.build(
        name, size=applications.smallest_size(name), classes=CLASSES
    )
    applications.randomize(model, seed=1)
    return model


@functools.lru_cache(1)
def dense(name):
    """An architecture, its weights, and what it costs; one for both couplings."""
    keras.utils.clear_session()
    gc.collect()
    model = build(name)
    return model, model.get_weights(), pgmpf_tf.profile(model)


def test_every_architecture_has_its_family_here():
    def family(name):
        if name.startswith("ResNet"):
            return "ResNetV2" if name.endswith("V2") else "ResNet"
        return max((f for f in FAMILIES if name.startswith(f)), key=len)

    for name in applications.NAMES:
        assert family(FAMILIES[family(name)]) == family(name)
    assert {family(name) for name in applications.NAMES} == set(FAMILIES)


def prune(model, coupling="grouped"):
    masked = pgmpf_tf.wrap(model, rate=0.5, coupling=coupling, seed=0)
    masked.apply_masks()
    return masked


def outputs(model, images):
    return np.asarray(model(images, training=False))


def interface(model):
    return [
        [x.name for x in model.layers if isinstance(x, keras.layers.InputLayer)],
        model.output_names,
        [(tensor.shape, tensor.dtype) for tensor in model.inputs + model.outputs],
    ]


@pytest.mark.parametrize(
    ("name", "coupling"),
    [
        case(name, coupling)
        for name in applications.NAMES
        for coupling in ("grouped", "independent")
    ],
)
def test_the_small_model_is_the_masked_one(name, coupling):
    model, weights, cost = dense(name)
    model.set_weights(weights)
    masked = prune(model, coupling)
    applications.settle(masked, applications.images(model, 32, seed=1))
    images = applications.images(model, 3, seed=2)
    expected = outputs(masked, images)
    # If the outputs hardly depended on the image, an error would not be seen.
    assert np.ptp(expected, axis=0).max() > 0.05 * np.abs(expected).max()

    small = pgmpf_tf.compact(masked)
    error = np.abs(outputs(small, images) - expected).max()
    allowed = TOLERANCE * np.abs(expected).max()
    if error > allowed:
        # The deepest ones amplify the rounding of float32: a last bit of the image too.
        nearly = outputs(masked, np.nextafter(images, np.float32(256)))
        allowed = 5 * np.abs(nearly - expected).max()
    assert error <= allowed
    assert interface(small) == interface(model)
    assert isinstance(small.input, type(model.input))
    assert all(type(o).__module__.startswith("keras.") for o in small.operations)
    small_cost = pgmpf_tf.profile(small)
    assert small_cost.macs < cost.macs
    assert small_cost.params < cost.params


LOADED = {"ConvNeXtTiny": "grouped", "MobileNetV3Small": "independent"}
LOAD = """
import sys, keras, numpy as np
for name in sys.argv[1:]:
    data = np.load(f"{name}.npz")
    found = np.asarray(keras.saving.load_model(f"{name}.keras")(data["images"]))
    assert np.abs(found - data["expected"]).max() <= 1e-6 * np.abs(found).max(), name
assert not any(name.startswith("pgmpf") for name in sys.modules)
"""


def test_files_load_without_this_package(tmp_path):
    for name, coupling in LOADED.items():
        small = pgmpf_tf.compact(prune(build(name), coupling))
        scattered = any(type(o).__name__ == "Take" for o in small.operations)
        assert scattered == (coupling == "independent")
        images = applications.images(small, 1, seed=3)
        small.save(tmp_path / f"{name}.keras")
        np.savez(
            tmp_path / f"{name}.npz", images=images, expected=outputs(small, images)
        )
    subprocess.run([sys.executable, "-c", LOAD, *LOADED], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "VGG16"])
def test_the_small_model_trains_further(name):
    small = pgmpf_tf.compact(prune(build(name)))
    before = small.get_weights()
    small.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    history = small.fit(
        applications.images(small, 4, seed=4), np.arange(4) % CLASSES, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    trained = {id(variable) for variable in small.trainable_variables}
    for variable, old in zip(small.variables[: len(before)], before, strict=True):
        if id(variable) in trained:
            assert (np.asarray(variable) != old).any(), variable.path
