"""The smallest networks and data that can show what the training tests are about."""

import keras
import numpy as np

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig


def convnet(name="convnet", dtype=None, conv="first", batchnorm=True):
    """A convolution with BatchNorm, a second one with a bias, a depthwise one."""
    keras.utils.set_random_seed(11)
    layers = keras.layers
    images = keras.Input((6, 6, 2), name="images")
    x = layers.Conv2D(8, 3, use_bias=not batchnorm, name=conv, dtype=dtype)(images)
    if batchnorm:
        x = layers.BatchNormalization(name="norm", dtype=dtype)(x)
    x = layers.ReLU(dtype=dtype)(x)
    x = layers.Conv2D(
        6, 3, name="second", bias_initializer="normal", dtype=dtype, padding="same"
    )(x)
    x = layers.PReLU(shared_axes=(1, 2), name="slope", dtype=dtype)(x)
    x = layers.DepthwiseConv2D(3, name="depthwise", dtype=dtype)(x)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    outputs = layers.Dense(3, name="scores", dtype=dtype)(x)
    return keras.Model(images, outputs, name=name)


def images_and_labels(count=32, seed=3):
    """Images of three classes that differ in their mean."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.normal(labels[:, None, None, None], 1.0, (count, 6, 6, 2))
    return images.astype(np.float32), labels.astype(np.int32)


def cross_entropy():
    """The loss for `convnet`."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def suppressing(suppression, dropout=0.0):
    """A method that masks the whole rate at once, and only suppresses for long."""
    return PruningConfig(
        rate=1.0,
        weight_mask=schedules.published_decay(),
        suppression=suppression,
        dropout=dropout,
        updates=schedules.every_epochs(),
    )


def pruned_slices(model):
    """The values of all slices that the masks of a wrapped model remove.

    Looked up by the layers' names, not by the analysis that wrote them.
    """
    first = model.masks()["first"] == 0
    second = model.masks()["second"] == 0
    slices = {
        "first": model.get_layer("first").kernel.numpy()[..., first],
        "second": model.get_layer("second").kernel.numpy()[..., second],
        "second bias": model.get_layer("second").bias.numpy()[second],
        "slope": model.get_layer("slope").alpha.numpy()[..., second],
        "depthwise": model.get_layer("depthwise").kernel.numpy()[:, :, second],
        "depthwise bias": model.get_layer("depthwise").bias.numpy()[second],
    }
    try:
        norm = model.get_layer("norm")
        slices["gamma"] = norm.gamma.numpy()[first]
        slices["beta"] = norm.beta.numpy()[first]
    except ValueError:
        slices["first bias"] = model.get_layer("first").bias.numpy()[first]
    return slices


def assert_pruned(model):
    """The pruned slices are there, and exactly zero."""
    for name, values in pruned_slices(model).items():
        assert values.size, name
        assert not values.any(), name
