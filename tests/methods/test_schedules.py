import json
import math
import pickle

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmpf_tf import schedules

parts = st.tuples(st.floats(0.0, 0.9), st.floats(0.01, 1.0)).map(
    lambda pair: (pair[0], pair[0] + (1.0 - pair[0]) * pair[1])
)
moments = st.floats(0.0, 1.0)


@pytest.mark.parametrize("total", [1, 2, 7, 30, 200])
def test_the_formulas_of_the_paper(total):
    sigma = 1e-3
    kappa = -math.log(sigma / (1.0 + 0.01 * sigma)) / total
    for t in range(total):
        moment = (t / total, 1 / total)
        cubic = 1 - (1 - (t + 1) / total) ** 3
        k = math.log(4) / (total / 8)
        late, ended = t >= 0.9 * total, t >= 0.8 * total
        expected = {
            schedules.published_exponential(): 1.0 if late else 1 - math.exp(-k * t),
            schedules.published_cubic(): 1.0 if late else cubic,
            schedules.published_decay(): 0.0 if ended else math.exp(-kappa * t),
            schedules.published_cosine(): (
                1.0 if late else 0.5 - 0.5 * math.cos(math.pi * t / (0.9 * total))
            ),
        }
        for schedule, value in expected.items():
            assert schedule(*moment) == pytest.approx(value), schedule


def test_three_quarters_of_the_published_rate_after_the_depth():
    assert schedules.published_exponential()(10 / 80) == pytest.approx(0.75)
    assert schedules.published_exponential(depth=0.25)(20 / 80) == pytest.approx(0.75)


def test_the_published_weight_mask_would_end_near_its_floor():
    # At t = T, before the end at 0.8 T cuts it off: a_0 s / (a_0 + 0.01 s).
    for floor in (1e-3, 1e-5):
        last = schedules.published_decay(floor=floor, end=1.0)(0.99999999)
        assert last == pytest.approx(floor / (1 + 0.01 * floor), rel=1e-6)


FORMS = {
    "linear": (schedules.linear, lambda u: u),
    "cubic": (schedules.cubic, lambda u: 1 - (1 - u) ** 3),
    "cosine": (schedules.cosine, lambda u: (1 - math.cos(math.pi * u)) / 2),
    "exponential": (
        schedules.exponential,
        lambda u: (1 - 4 ** (-8 * u)) / (1 - 4**-8),
    ),
    "decay": (schedules.decay, lambda u: (0.001**u - 0.001) / 0.999),
}


@pytest.mark.parametrize("name", FORMS)
@given(parts, moments)
def test_begin_and_end_compress_a_schedule(name, part, progress):
    make, form = FORMS[name]
    begin, end = part
    u = min(max((progress - begin) / (end - begin), 0.0), 1.0)
    value = make(begin=begin, end=end)(progress)
    assert value == pytest.approx(form(u), abs=1e-6)
    assert 0.0 <= value <= 1.0
    assert make(begin=begin, end=end)(end) == form(1.0)
    assert make(begin=begin, end=end)(begin) == form(0.0)


@given(moments, moments)
def test_a_value_is_that_of_the_next_update(progress, ahead):
    rise = schedules.cubic(end=0.4)
    assert rise(progress, ahead) == rise(progress + ahead)


def test_schedules_of_schedules():
    fall = schedules.scaled(schedules.cubic(end=0.5), 1.0, 0.25)
    assert (fall(0.0), fall(0.5), fall.end) == (1.0, 0.25, 0.5)
    late = schedules.within(schedules.linear(end=0.5), 0.2, 0.6)
    assert late(0.3) == pytest.approx(0.5)
    assert (late.begin, late.end) == (0.2, pytest.approx(0.4))
    assert late(late.end) == 1.0
    assert schedules.scaled(0.5, 1.0, 0.0)(0.3) == 0.5


def plateau(progress):
    return min(max(2 * progress - 0.5, 0.0), 1.0)


def test_a_function_of_one_s_own_is_a_schedule():
    schedule = schedules.custom(plateau)
    assert schedule(0.5) == 0.5
    assert schedule(0.5, 0.1) == pytest.approx(0.7)
    assert (schedule.begin, schedule.end) == (0.25, 0.75)
    with pytest.raises(ValueError, match=r"`function\(progress\)`.*\[0, 1\]"):
        schedules.custom(lambda progress: 2 * progress)


SCHEDULES = [
    schedules.constant(0.5),
    schedules.cubic(end=0.4),
    schedules.exponential(depth=0.25, begin=0.1),
    schedules.scaled(schedules.within(schedules.cosine(), end=0.5), 1, 0),
    schedules.published_decay(floor=1e-5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_survives_json_pickle_and_its_own_text(schedule):
    import pgmpf_tf

    config = json.loads(json.dumps(schedule.get_config()))
    for copy in (
        schedules.Schedule.from_config(config),
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), {"pgmpf_tf": pgmpf_tf}),
    ):
        assert copy == schedule
        assert hash(copy) == hash(schedule)
        assert [copy(x / 10) for x in range(11)] == [
            schedule(x / 10) for x in range(11)
        ]
    assert all(schedule != other for other in SCHEDULES if other is not schedule)


def test_a_registered_function_survives_json():
    registered = keras.saving.register_keras_serializable("tests")(plateau)
    schedule = schedules.custom(registered)
    config = json.loads(json.dumps(schedule.get_config()))
    assert schedules.Schedule.from_config(config) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.cubic(end=0.0), r"`end` must be .*\(0, 1\]"),
        (lambda: schedules.cubic(begin=0.5, end=0.5), r"`begin` must be .*\[0, 0.5\)"),
        (lambda: schedules.constant(2), r"`level` must be .*\[0, 1\]"),
        (lambda: schedules.exponential(depth=0), r"`depth` must be .*\(0, 1\]"),
        (lambda: schedules.decay(floor=1), r"`floor` must be .*\(0, 1\)"),
        (lambda: schedules.scaled(1.0, first=-1, last=0), "`first` must be"),
        (lambda: schedules.published_decay(0.1, floor=0.1), r"`floor`.*\(0, 0.1\)"),
        (lambda: schedules.published_cosine(period=-1), "`period` must be"),
        (lambda: schedules.every_epochs(0), "`count` must be an int of at least 1"),
        (lambda: schedules.Schedule.from_config({"form": "steps"}), "`form`.*'steps'"),
    ],
)
def test_a_value_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_value_of_a_wrong_type_is_named():
    with pytest.raises(TypeError, match="`end` must be"):
        schedules.cubic(end="1")
    with pytest.raises(TypeError, match="`rate` must be a schedule, a function"):
        schedules.as_schedule("rate", "cubic")
