"""Models of any kind: random weights, inputs, outputs, and zeros in them."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

import pgmpf_tf

TOLERANCE = 2e-6  # sums over fewer channels are added up in another order


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Random weights, and BatchNorm statistics far from their initial 0 and 1."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" not in str(variable.dtype):
            continue
        name, shape = variable.path.split("/")[-1], variable.shape
        if "variance" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif name in ("gamma", "scale"):
            value = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
        elif len(shape) < 2:
            value = rng.normal(0, 0.4, shape)
        else:
            axes = -2 if "depthwise" in name else -1
            value = rng.normal(0, (2 / np.prod(shape[:axes])) ** 0.5, shape)
        variable.assign(value.astype("float32"))


TOKENS = 10
"""How many tokens the text of random models has; the first is padding."""


def samples(model: keras.Model, batch: int = 2, seed: int = 1):
    """Inputs for a model, in the structure it takes."""
    rng = np.random.default_rng(seed)

    def draw(x):
        shape = (batch, *x.shape[1:])
        if "int" in x.dtype:
            return rng.integers(0, TOKENS, shape) * (rng.random(shape) < 0.7)
        return rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(draw, model._inputs_struct)


def outputs_of(model: keras.Model, x) -> list[np.ndarray]:
    """Inference outputs, flat."""
    flat = keras.tree.flatten(model(x, training=False))
    return [np.asarray(ops.convert_to_numpy(y)) for y in flat]


def deviation(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Largest difference, relative to the largest value of each output."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        scale = np.abs(a).max(initial=0) + 1e-6
        worst = max(worst, float(np.abs(a - b).max(initial=0) / scale))
    return worst


def zero_filters(model: keras.Model, name: str, lost) -> None:
    """Zero whole filters of a layer, as another tool would."""
    layer = model.get_layer(name)
    weights = layer.get_weights()
    for weight in weights:
        weight[..., lost] = 0
    layer.set_weights(weights)


def zero_by_hand(model: keras.Model, seed: int) -> None:
    """Zero random slices of random variables, tied to nothing."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.Model) or not layer.weights or rng.random() < 0.4:
            continue
        axis = -2 if "Transpose" in type(layer).__name__ else -1
        for variable in layer.weights:
            if "variance" in variable.path or not variable.shape:
                continue
            value = np.array(variable)
            at = axis if value.ndim > 1 else -1
            if value.ndim == 3 and "Conv" not in type(layer).__name__:
                at = int(rng.integers(-3, 0))  # heads, their sizes, or width
            lost = np.random.default_rng(seed).random(value.shape[at]) < 0.5
            np.moveaxis(value, at, 0)[lost] = 0
            variable.assign(value)


def residual_network() -> keras.Model:
    """Two blocks behind a stem, 8 channels everywhere."""
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    for block in range(2):
        z = layers.Conv2D(8, 3, padding="same", name=f"conv{block}a")(y)
        z = layers.ReLU()(layers.BatchNormalization()(z))
        z = layers.Conv2D(8, 3, padding="same", name=f"conv{block}b")(z)
        z = layers.BatchNormalization(name=f"norm{block}b")(z)
        y = layers.ReLU()(layers.Add(name=f"add{block}")([y, z]))
    y = layers.GlobalAveragePooling2D()(y)
    model = keras.Model(x, layers.Dense(4, name="logits")(y), name="residual")
    randomize(model)
    return model


def masked(model: keras.Model, rate=0.5, **options) -> pgmpf_tf.PrunedModel:
    """The model, wrapped, with zeros where it is pruned."""
    wrapped = pgmpf_tf.wrap(model, rate=rate, **options)
    wrapped.apply_masks()
    return wrapped


def assert_same(model: keras.Model, small: keras.Model) -> None:
    """The two compute the same, up to rounding."""
    x = samples(model)
    assert deviation(outputs_of(model, x), outputs_of(small, x)) < TOLERANCE
