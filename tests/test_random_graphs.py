"""The promise of `compact`, on hundreds of random graphs.

`python -m tests.test_random_graphs FIRST LAST` tries any range of seeds.
"""

import sys
import warnings

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf import compaction
from tests.graphs import deviation, outputs_of, samples, zero_by_hand
from tests.random_models import random_model

GRAPHS = 300
PER_TEST = 10


def pruned(seed: int) -> keras.Model:
    """A random model whose filters are zero, by `wrap` or by hand."""
    model = random_model(seed)
    ways = ("grouped", "independent", "by hand")
    way = ways[seed % len(ways)]
    if way == "by hand":
        zero_by_hand(model, seed)
        return model
    rate = float(np.random.default_rng(seed).choice([0.3, 0.5, 0.8]))
    try:
        wrapped = pgmpf_tf.wrap(model, rate=rate, coupling=way, seed=seed)
    except ValueError as error:
        nothing = ("no filters that can be pruned", "that some group loses a filter")
        if not any(words in str(error) for words in nothing):
            raise
        return model
    wrapped.apply_masks()
    return wrapped


def check(seed: int) -> None:
    """Equal outputs, structure kept, never larger, and nothing left to remove."""
    model = pruned(seed)
    small, origins = compaction.compact_with_origins(model)
    for origin in origins:
        cut = origin.cut(origin.source.numpy(), np.zeros(origin.variable.shape))
        np.testing.assert_array_equal(cut, origin.variable)
    known = {id(origin.variable) for origin in origins}
    for weight in small.weights:
        # A bias may hold constants now, a scale a factor: they are cut from nothing.
        assert id(weight) in known or weight.path.split("/")[-1] in ("bias", "scale")
    x = samples(model)
    found = outputs_of(small, x)
    # Sums over fewer channels are added up in another order: float32 rounding.
    assert deviation(outputs_of(model, x), found) < 1e-5
    assert small.output_names == model.output_names
    assert [x.name for x in small.inputs] == [x.name for x in model.inputs]
    keras.tree.assert_same_structure(small.output, model.output)
    assert [y.shape for y in small.outputs] == [y.shape for y in model.outputs]
    assert small.count_params() <= model.count_params()
    again = pgmpf_tf.compact(small)
    assert again.count_params() <= small.count_params()
    assert deviation(found, outputs_of(again, x)) < 1e-5


@pytest.mark.parametrize("first", range(0, GRAPHS, PER_TEST))
def test_small_equals_masked(first, monkeypatch):
    if first % 20:  # every other test inserts as in very deep models
        monkeypatch.setattr(compaction, "DEEP", 0)
    for seed in range(first, first + PER_TEST):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(f"graph of seed {seed}") from error


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[2])
    failed = 0
    warnings.filterwarnings("error", ".* keeps all of its channels, since")
    for seed in range(first, last):
        try:
            check(seed)
        except Exception as error:  # report and go on
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:200]}")
        if seed % 20 == 19:
            keras.backend.clear_session()
    print(f"{last - first} graphs, {failed} failed")
