"""The architectures of `keras.applications`, with weights that hide nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import keras
import numpy as np

NAMES = tuple(
    name
    for name, constructor in sorted(vars(keras.applications).items())
    if inspect.isfunction(constructor)
)
"""The constructors, sorted."""

# Below these sizes the constructor, or a pooling in it, refuses.
_SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}


def smallest_size(name: str) -> int:
    """The smallest height and width of an image that the architecture takes."""
    return _SMALLEST.get(name, 32)


def build(name: str, *, size: int | None = None, classes: int = 1000) -> keras.Model:
    """Builds an architecture that ends in logits; see `randomize` for its weights.

    Args:
        name: one of `NAMES`.
        size: height and width of the images; None is the architecture's own.
        classes: number of logits.

    Returns:
        A Functional model from images with values 0..255 to `(batch, classes)`.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in NAMES:
        raise ValueError(
            f"name must be one of {', '.join(NAMES)}. Received: name={name!r}"
        )
    if name.startswith("MobileNetV3"):  # takes images of any size by default
        size = size or 224
    return getattr(keras.applications, name)(
        weights=None,
        input_shape=size and (size, size, 3),
        classes=classes,
        classifier_activation=None,
    )


def images(model: keras.Model, count: int, seed: int) -> np.ndarray:
    """Random images for a model: colored patches under noise.

    Args:
        model: a model of one input, `(batch, height, width, channels)`.
        count: number of images.
        seed: of the draws.

    Returns:
        Shape `(count, height, width, channels)`, float32, values 0..255.
    """
    rng = np.random.default_rng(seed)
    _, height, width, channels = model.input_shape
    # Noise alone would make all images alike to the deeper layers, which see averages.
    patches = rng.uniform(0, 255, (count, 4, 4, channels))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    noise = rng.uniform(0, 255, (count, height, width, channels))
    return (0.5 * (patches[:, rows][:, :, columns] + noise)).astype("float32")


def randomize(model: keras.Model, seed: int, batch: int = 32) -> None:
    """Gives every weight a value as after training, none of them 0 or 1.

    Kernels are He-normal; biases, scales and offsets are random. The statistics of
    BatchNormalization are settled on random images.

    Args:
        model: what `build` returned.
        seed: of all draws.
        batch: how many images; they are all in memory at every layer.
    """
    rng = np.random.default_rng(seed)
    sample = images(model, batch, seed)
    for layer in _layers(model):
        if not isinstance(layer, keras.layers.Normalization):
            for variable in layer.trainable_variables:
                variable.assign(_draw(rng, variable))
        elif layer.input_mean is None:
            layer.adapt(sample / 255)
    settle(model, sample)


def settle(model: keras.Model, sample: np.ndarray) -> None:
    """Sets the moving statistics of every BatchNormalization to those of a batch.

    So signals neither fade nor blow up on their way to the output, as in a network that
    was trained.

    Args:
        model: any model of one input.
        sample: a batch of images.
    """
    norms = [
        layer
        for layer in _layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model(sample, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _draw(rng: np.random.Generator, variable: keras.Variable) -> np.ndarray:
    shape, name = variable.shape, variable.path.rsplit("/", 1)[-1]
    if name == "gamma":
        return rng.uniform(0.5, 1.5, shape)
    values = rng.standard_normal(shape, dtype=np.float32)
    if name == "beta":
        return 0.3 * values
    if name == "bias":  # small, or VGG would hardly see its image
        return 0.1 * values
    fan_in = np.prod(shape[:-2] if "depthwise" in variable.path else shape[:-1])
    return values * np.sqrt(2 / fan_in, dtype=np.float32)
