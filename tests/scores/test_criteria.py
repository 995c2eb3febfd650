import json
import math
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgmpf_tf import criteria
from pgmpf_tf.channels.units import NO_UNIT, Group, Member

matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 7)),
    elements=st.floats(-10, 10),
)


def slow_norm(row, power):
    return sum(abs(value) ** power for value in row) ** (1 / power)


@given(matrices)
def test_norms(filters):
    for function, power in ((criteria.l1, 1), (criteria.l2, 2)):
        expected = [slow_norm(row, power) for row in filters]
        np.testing.assert_allclose(function(filters), expected, rtol=1e-9)


@given(matrices)
def test_geometric_median_is_the_sum_of_distances(filters):
    expected = [sum(math.dist(a, b) for b in filters) for a in filters]
    # The fast form loses half the digits where filters are nearly equal.
    np.testing.assert_allclose(
        criteria.geometric_median(filters), expected, rtol=1e-6, atol=1e-5
    )


@given(matrices)
def test_taylor_is_the_mean_of_squares(contributions):
    expected = [sum(value**2 for value in row) / len(row) for row in contributions]
    np.testing.assert_allclose(criteria.taylor(contributions), expected, rtol=1e-9)


def test_every_criterion_names_its_source():
    for name, criterion in criteria.CRITERIA.items():
        if name != "random":
            formula = getattr(criteria, name)
            assert re.search(r"\(.* et al\., \w+ 20\d\d", formula.__doc__), name
            assert isinstance(criteria.resolve(name), criterion)


def test_the_filter_at_the_geometric_median_goes_first():
    filters = np.array([[0.0, 9.0], [9.0, 9.0], [5.0, 9.0]])
    assert criteria.geometric_median(filters).argmin() == 2
    assert criteria.l2(filters).argmin() == 0


def scores_of(criterion, group):
    (scores,) = criteria.resolve(criterion).scores([group])
    return scores


def member(values, units, axis=-1, role="kernel", name="layer"):
    values = np.asarray(values, np.float32)
    variable = keras.Variable(values)
    layer = keras.layers.Layer(name=name)
    return Member(layer, variable, axis % values.ndim, role, np.asarray(units))


def group_of(*members):
    units = np.unique(np.concatenate([m.units for m in members]))
    return Group(members[0].layer.name, units[units != NO_UNIT], members)


def test_a_filter_is_a_slice_along_its_axis():
    values = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    for axis in range(4):
        only = member(values, np.arange(values.shape[axis]), axis)
        others = tuple(a for a in range(4) if a != axis)
        np.testing.assert_allclose(
            scores_of("l2", group_of(only)),
            np.sqrt((values**2).sum(others)),
            rtol=1e-6,
        )


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("sum", [13.0, 7.0]), ("mean", [13 / 3, 3.5]), ("max", [8.0, 5.0])],
)
def test_slices_of_one_unit_are_combined(combine, expected):
    # Unit 7 has three slices, unit 3 two; slices without a unit count for nothing.
    first = member([[1.0, 2.0, 100.0, 8.0]], [7, 3, NO_UNIT, 7])
    second = member([[5.0, 4.0]], [3, 7])
    scores = scores_of(criteria.L1(combine=combine), group_of(first, second))
    np.testing.assert_allclose(scores, expected[::-1])  # units in order: 3, 7


def test_normalized_layers_weigh_the_same():
    small = member([[0.1, 0.3]], [0, 1], name="small")
    large = member([[30.0, 10.0]], [0, 1], name="large")
    plain = scores_of("l1", group_of(small, large))
    assert plain[0] > plain[1]
    even = scores_of(criteria.L1(normalize=True), group_of(small, large))
    np.testing.assert_allclose(even, [2.0, 2.0])


def test_batchnorm_scale_looks_at_gamma_alone():
    kernel = member([[1.0, 2.0]], [0, 1])
    gamma = member([-0.5, 0.25], [0, 1], role="scale")
    scores = scores_of("batchnorm_scale", group_of(kernel, gamma))
    np.testing.assert_allclose(scores, [0.5, 0.25])


def test_random_scores_depend_on_seed_and_group():
    one = group_of(member(np.ones((1, 9)), range(9), name="one"))
    two = group_of(member(np.ones((1, 9)), range(9), name="two"))
    scores = [
        tuple(scores_of(criteria.Random(seed), group))
        for seed, group in [(0, one), (0, one), (1, one), (0, two)]
    ]
    assert scores[0] == scores[1]
    assert len(set(scores)) == 3
    assert criteria.Random().seeded(7) == criteria.Random(seed=7)
    assert criteria.Random(seed=3).seeded(7) == criteria.Random(seed=3)


def test_a_function_is_a_criterion():
    group = group_of(member([[3.0, 1.0], [0.0, 5.0]], [0, 1]))
    scores = scores_of(lambda filters: filters.max(axis=1), group)
    np.testing.assert_allclose(scores, [3.0, 5.0])


def test_a_class_of_the_users_own_is_a_criterion():
    class Largest(criteria.Criterion):
        def score(self, filters):
            return filters.max(axis=1)

    group = group_of(member([[3.0, 1.0], [0.0, 5.0]], [0, 1]))
    np.testing.assert_allclose(scores_of(Largest(), group), [3.0, 5.0])
    np.testing.assert_allclose(scores_of(Largest(normalize=True), group), [0.75, 1.25])
    with pytest.raises(TypeError, match="abstract"):
        criteria.Criterion()


@keras.saving.register_keras_serializable("tests")
def largest(filters):
    return filters.max(axis=1)


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (criteria.L1(), "L1()"),
        (criteria.L2(normalize=True), "L2(normalize=True)"),
        (criteria.GeometricMedian(combine="max"), "GeometricMedian(combine='max')"),
        (criteria.BatchNormScale(), "BatchNormScale()"),
        (criteria.Random(seed=np.int64(3)), "Random(seed=3)"),
        (criteria.Custom(largest, combine="mean"), None),
        (criteria.Taylor((1, 2), "mse", normalize=np.True_), None),
        (criteria.Taylor(loss={"a": "mse", "b": largest}), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_criterion_returns_from_a_file_without_its_data(criterion, text):
    config = keras.saving.serialize_keras_object(criterion)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again == criterion
    assert getattr(again, "data", None) is None
    assert text in (None, repr(criterion))


def test_scores_that_are_not_one_number_per_filter_are_refused():
    group = group_of(member(np.ones((4, 3)), range(3), name="dense"))
    with pytest.raises(ValueError, match=r"\(3, 4\) filters of layer 'dense'.*\(4,\)"):
        scores_of(lambda f: f.sum(axis=0), group)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    group = group_of(member([[1.0, bad]], range(2), name="dense"))
    with pytest.raises(ValueError, match="layer 'dense' score NaN or infinity"):
        scores_of("l2", group)


def test_what_is_no_criterion_is_refused():
    with pytest.raises(
        ValueError, match=r"`criterion` must be one of 'l1', 'l2'.*'l3'"
    ):
        criteria.resolve("l3")
    with pytest.raises(ValueError, match=r"`combine` must be one of 'sum'.*'median'"):
        criteria.L2(combine="median")
    for no_criterion in (2, None, criteria.L1):
        with pytest.raises(TypeError, match="`criterion` must be a name, a Criterion"):
            criteria.resolve(no_criterion)
    with pytest.raises(TypeError, match="`function` must be a function"):
        criteria.Custom("l2")
