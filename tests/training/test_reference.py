"""The method to the letter: `fit` beside a slow NumPy transcription of the paper."""

import math

import keras
import numpy as np
import pytest

from pgmpf_tf.methods import schedules
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.training.wrapping import wrap
from tests.training.test_draws import slow_uniform

EPOCHS, STEPS, BATCH = 3, 4, 8
RATE, LEARNING_RATE, MOMENTUM = 0.4, 0.05, 0.9
WIDTHS = (5, 10, 7, 2)  # inputs, two layers to prune, and outputs that stay


def build():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((WIDTHS[0],)),
            keras.layers.Dense(WIDTHS[1], "tanh", bias_initializer="normal"),
            keras.layers.Dense(WIDTHS[2], "tanh", bias_initializer="normal"),
            keras.layers.Dense(WIDTHS[3]),
        ]
    )


def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(STEPS * BATCH, WIDTHS[0])).astype(np.float32)
    y = rng.normal(size=(STEPS * BATCH, WIDTHS[3])).astype(np.float32)
    return x, y


def draws(seed, step):
    """The two layers' dropout of the prior mask: which filters are let through."""
    widths = WIDTHS[1:3]
    draw = [slow_uniform(seed, step, place) for place in range(sum(widths))]
    return np.split(np.asarray(draw) >= 0.5, [widths[0]])


class Transcription:
    """FACTS of the method in loops over layers and filters; no framework."""

    def __init__(self, weights, constants):
        self.kernels = [np.float64(w) for w in weights[0::2]]
        self.biases = [np.float64(b) for b in weights[1::2]]
        self.velocity = [np.zeros_like(w) for w in self.kernels]
        self.bias_velocity = [np.zeros_like(b) for b in self.biases]
        self.constants = constants
        self.masks = [np.ones(n) for n in WIDTHS[1:3]]

    def schedules(self, t):
        form = self.constants
        x = (t + 1) / EPOCHS
        cubic = 1 - (1 - x) ** 3
        k = math.log(4) / (EPOCHS / 8)
        rate = {
            "constant": RATE,
            "exponential": RATE * (1 - math.exp(-k * t)),
            "polynomial": RATE * cubic,
        }[form["rate"]]
        s = form["sigma"]
        a = form["a0"] * math.exp(t / EPOCHS * math.log(s / (1 + 0.01 * s)))
        suppression = {
            "zero": 0.0,
            "one": 1.0,
            "cubic": cubic,
            "cosine": 1 - 0.5 * (1 + math.cos(math.pi * t / (0.9 * EPOCHS))),
        }[form["suppression"]]
        rate = RATE if t >= 0.9 * EPOCHS else rate
        a = 0.0 if t >= 0.8 * EPOCHS else a
        if form["suppression"] in ("cubic", "cosine") and t >= form["end"] * EPOCHS:
            suppression = 1.0
        return rate, a, suppression

    def prune(self, rate, a, last=False):
        for layer in (0, 1):
            kernel, bias = self.kernels[layer], self.biases[layer]
            norms = [math.sqrt(sum(w * w for w in f)) for f in kernel.T]
            order = sorted(range(len(norms)), key=lambda j: (norms[j], j))
            removed = order[: math.floor(len(norms) * rate)]
            self.masks[layer] = np.ones(len(norms))
            for j in removed:
                self.masks[layer][j] = 0.0
                kernel[:, j] *= a
                if not (self.constants["kernels_only"] and not last):
                    bias[j] *= a

    def gradients(self, x, y):
        activations = [x]
        for w, b in zip(self.kernels, self.biases, strict=True):
            z = activations[-1] @ w + b
            last = len(activations) == len(self.kernels)
            activations.append(z if last else np.tanh(z))
        delta = 2 * (activations[-1] - y) / y.size
        result = []
        for layer in reversed(range(len(self.kernels))):
            result.append((activations[layer].T @ delta, delta.sum(0)))
            delta = (delta @ self.kernels[layer].T) * (1 - activations[layer] ** 2)
        return result[::-1]

    def step(self, x, y, suppression, passed):
        for layer, (dw, db) in enumerate(self.gradients(x, y)):
            if layer < 2:
                for j, m in enumerate(self.masks[layer]):
                    g = m + (1 - m) * (1 - suppression) * passed[layer][j]
                    dw[:, j] *= g
                    db[j] *= g
            self.velocity[layer] = MOMENTUM * self.velocity[layer] - LEARNING_RATE * dw
            self.kernels[layer] += self.velocity[layer]
            self.bias_velocity[layer] = (
                MOMENTUM * self.bias_velocity[layer] - LEARNING_RATE * db
            )
            self.biases[layer] += self.bias_velocity[layer]

    def run(self, x, y, seed):
        """Trains; returns the masks after every epoch."""
        rate, a, _ = self.schedules(0)
        self.prune(rate, a)
        history = []
        for t in range(EPOCHS):
            _, _, suppression = self.schedules(t)
            for step in range(STEPS):
                batch = slice(step * BATCH, (step + 1) * BATCH)
                passed = draws(seed, t * STEPS + step)
                if not self.constants["dropout"]:
                    passed = [np.ones(n) for n in WIDTHS[1:3]]
                self.step(x[batch], y[batch], suppression, passed)
            rate, a, _ = self.schedules(t)
            if t == EPOCHS - 1:
                rate, a = RATE, 0.0
            self.prune(rate, a, last=t == EPOCHS - 1)
            history.append(np.concatenate(self.masks))
        return history


PGMPF = {
    "rate": "exponential",
    "a0": 1,
    "sigma": 1e-3,
    "suppression": "cubic",
    "end": 0.9,
    "dropout": True,
    "kernels_only": False,
}
FREE = {"suppression": "zero", "dropout": False}
CASES = {
    "hard": {**FREE, "rate": "constant", "a0": 0, "suppression": "one"},
    "sfp": {**FREE, "rate": "constant", "a0": 0},
    "sfp on kernels": {**FREE, "rate": "constant", "a0": 0, "kernels_only": True},
    "asfp": {**FREE, "a0": 0},
    "asrfp": FREE,
    "pgmpf_no_dropout": {"dropout": False},
    "pgmpf_published": {},
    "cosine and polynomial": {"suppression": "cosine", "rate": "polynomial"},
    "pretrained": {"sigma": 1e-5, "end": 0.8},
}


class Masks(keras.callbacks.Callback):
    """Collects the masks after every epoch."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(np.concatenate(list(self.model.masks().values())))


@pytest.mark.parametrize("name", CASES)
def test_three_epochs_filter_by_filter(name):
    if name == "cosine and polynomial":
        method = PruningConfig.preset(
            "pgmpf_published",
            rate=schedules.published_cubic(),
            suppression=schedules.published_cosine(),
        )
    elif name == "pretrained":
        method = PruningConfig.preset("pgmpf_published", pretrained=True)
    elif name == "sfp on kernels":
        method = PruningConfig.preset("sfp", kernels_only=True)
    else:
        method = name
    plain = build()
    x, y = data()
    reference = Transcription(plain.get_weights(), {**PGMPF, **CASES[name]})
    expected = reference.run(np.float64(x), np.float64(y), seed=7)

    model = wrap(plain, RATE, method=method, seed=7)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, MOMENTUM), "mse")
    masks = Masks()
    history = model.fit(
        x, y, BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[masks]
    ).history

    np.testing.assert_array_equal(masks.seen, expected)
    weights = model.get_weights()
    for layer in range(3):
        kernel, bias = weights[2 * layer], weights[2 * layer + 1]
        np.testing.assert_allclose(kernel, reference.kernels[layer], atol=2e-6)
        np.testing.assert_allclose(bias, reference.biases[layer], atol=2e-6)
    values = [reference.schedules(t) for t in range(EPOCHS)]
    rates, masks, suppressions = map(list, zip(*values, strict=True))
    rates[-1], masks[-1] = RATE, 0.0
    np.testing.assert_allclose(history["pruning_rate"], rates, atol=1e-6)
    np.testing.assert_allclose(history["weight_mask"], masks, atol=1e-6)
    np.testing.assert_allclose(history["suppression"], suppressions, atol=1e-6)


def test_the_run_prunes_what_it_should():
    """The cases above would agree on nothing happening; something does."""
    model = wrap(build(), RATE, seed=7)
    model.compile("sgd", "mse")
    model.fit(*data(), epochs=2, verbose=0)
    kept = [mask.sum() for mask in model.masks().values()]
    assert kept == [6, 5]  # 10 - floor(4.0), 7 - floor(2.8)
    for layer, mask in zip(model.layers[1:3], model.masks().values(), strict=True):
        kernel, bias = layer.get_weights()
        assert not kernel[:, mask == 0].any()
        assert not bias[mask == 0].any()
        assert kernel[:, mask == 1].any(axis=0).all()
