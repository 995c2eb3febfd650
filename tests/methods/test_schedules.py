import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf import schedules

totals = st.integers(1, 300)
rates = st.floats(0.0, 0.99)


@pytest.mark.parametrize("total", [1, 2, 7, 30, 200])
def test_the_formulas_of_the_paper(total):
    rate, sigma = 0.4, 1e-3
    kappa = -math.log(sigma / (1.0 + 0.01 * sigma)) / total
    for t in range(total):
        x = (t + 1) / total
        cubic = 1 - (1 - x) ** 3
        k = math.log(4) / (total / 8)
        late, ended = t >= 0.9 * total, t >= 0.8 * total
        expected = rate if late else rate * (1 - math.exp(-k * t))
        assert schedules.exponential_rate(t, total, rate) == pytest.approx(expected)
        expected = rate if late else rate * cubic
        assert schedules.polynomial_rate(t, total, rate) == pytest.approx(expected)
        expected = 0.0 if ended else math.exp(-kappa * t)
        assert schedules.weight_mask(t, total) == pytest.approx(expected)
        expected = 1.0 if late else cubic
        assert schedules.cubic_suppression(t, total) == pytest.approx(expected)
        cosine = 1 - 0.5 * (1 + math.cos(math.pi * t / (0.9 * total)))
        expected = 1.0 if late else cosine
        assert schedules.cosine_suppression(t, total) == pytest.approx(expected)


def test_three_quarters_of_the_rate_after_the_depth():
    assert schedules.exponential_rate(10, 80, 0.4) == pytest.approx(0.3)
    assert schedules.exponential_rate(20, 80, 0.4, depth=0.25) == pytest.approx(0.3)


def test_the_weight_mask_would_end_near_its_floor():
    # At t = T, before the end at 0.8 T cuts it off: a_0 s / (a_0 + 0.01 s).
    for floor in (1e-3, 1e-5):
        last = schedules.weight_mask(99.999999, 100, floor=floor, end=1.0)
        assert last == pytest.approx(floor / (1 + 0.01 * floor), rel=1e-6)


@given(totals, rates)
def test_rates_rise_to_the_whole_rate(total, rate):
    for form in (schedules.exponential_rate, schedules.polynomial_rate):
        values = [form(t, total, rate) for t in range(total)]
        assert values == sorted(values)
        assert all(0.0 <= value <= rate for value in values)
        assert form(0.9 * total, total, rate) == rate


@given(totals, st.floats(0.05, 1.0))
def test_suppression_rises_to_one_at_its_end(total, end):
    for form in (schedules.cubic_suppression, schedules.cosine_suppression):
        values = [form(t, total, end=end) for t in range(total)]
        assert values == sorted(values)
        assert all(0.0 <= value <= 1.0 for value in values)
        assert form(end * total, total, end=end) == 1.0


@given(totals, st.floats(0.05, 1.0), st.floats(0.01, 1.0))
def test_the_weight_mask_falls_to_zero_at_its_end(total, end, initial):
    values = [
        schedules.weight_mask(t, total, initial=initial, end=end) for t in range(total)
    ]
    assert values == sorted(values, reverse=True)
    assert schedules.weight_mask(end * total, total, initial=initial, end=end) == 0.0
    assert values[0] == initial


def test_a_weight_mask_that_starts_at_zero_stays_zero():
    assert schedules.weight_mask(0, 10, initial=0.0) == 0.0
