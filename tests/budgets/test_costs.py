"""The cost predicted is the cost of the network that is built."""

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.compaction import compact_as
from tests.graphs import outputs_of, samples
from tests.random_models import random_model

GRAPHS = 20


def some_units(analysis, seed):
    """Any units, but not all of a group."""
    rng = np.random.default_rng(seed)
    removed = rng.random(analysis.unit_count) < rng.choice([0.2, 0.5, 0.9])
    for group in analysis.groups:
        removed[rng.choice(group.units)] = False
    return removed


def zero(members, removed):
    gone = np.append(removed, False)
    for member in members:
        value = np.array(member.variable)
        np.moveaxis(value, member.axis, 0)[gone[member.units]] = 0
        member.variable.assign(value)


def check(model, coupling, seed):
    analysis = analyze(model, coupling=coupling)
    removed = some_units(analysis, seed)
    costs, x = CostModel(model, analysis), samples(model)
    before = outputs_of(model, x)
    predicted = costs.cost(removed)
    supposed = compact_as(model, costs.without(removed))
    for one, other in zip(before, outputs_of(model, x), strict=True):
        np.testing.assert_array_equal(one, other)
    zero(analysis.members, removed)
    small = pgmpf_tf.compact(model)
    built = pgmpf_tf.profile(small)
    assert (predicted.macs, predicted.params) == (built.macs, built.params)
    for one, other in zip(outputs_of(supposed, x), outputs_of(small, x), strict=True):
        np.testing.assert_array_equal(one, other)
    return built.macs


@pytest.mark.parametrize("coupling", ["grouped", "independent"])
def test_predicted_is_built_on_random_graphs(coupling):
    smaller = 0
    for seed in range(GRAPHS):
        model = random_model(seed)
        macs = pgmpf_tf.profile(model).macs
        try:
            smaller += check(model, coupling, seed) < macs
        except Exception as error:
            raise AssertionError(f"graph of seed {seed}") from error
    assert smaller > GRAPHS / 2
    keras.backend.clear_session()
