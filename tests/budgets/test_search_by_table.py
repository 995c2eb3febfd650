"""A latency that a table predicts is met like any other cost, stairs and all."""

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf import Budget
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.budgets.times import Point, Times
from pgmpf_tf.channels.analysis import analyze
from tests.budgets.made_up_times import table
from tests.budgets.test_search import Measured, network
from tests.graphs import randomize


def predicted(times, model, wrapped, coupling="grouped"):
    """Milliseconds of the whole network, and without what is masked.

    And of the latter with one unit more in each group that has lost one.
    """
    analysis = analyze(model, coupling=coupling)
    removed = np.zeros(analysis.unit_count, bool)
    for group in analysis.groups:
        removed[group.units] = wrapped.masks()[group.name] == 0
    costs = CostModel(model, analysis)

    def time(gone):
        return times.milliseconds(costs.segments(gone))

    more = []
    for group in analysis.groups:
        fewer = removed.copy()
        gone = group.units[removed[group.units]]
        fewer[gone[:1]] = False
        if gone.size:
            more.append(time(fewer))
    return time(np.zeros_like(removed)), time(removed), more


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.7])
@pytest.mark.parametrize("strategy", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("coupling", ["grouped", "independent"])
def test_a_predicted_latency_is_met_and_there_is_no_room_for_one_more_unit(
    coupling, strategy, fraction
):
    model = network(width=40)
    times = table()
    drops = Measured(model, coupling) if strategy == "sensitivity" else None
    budget = Budget(
        latency=fraction, latency_table=times, strategy=strategy, sensitivity=drops
    )
    wrapped = pgmpf_tf.wrap(model, rate=budget, coupling=coupling)
    wrapped.apply_masks()
    dense, small, more = predicted(times, network(width=40), wrapped, coupling)
    assert small <= (1 - fraction) * dense
    assert more
    # Independent: a unit that a group takes back may make room, where it saves a
    # scatter; that is for the groups that choose after it.
    fullest = min if coupling == "grouped" else max
    assert (1 - fraction) * dense < fullest(more)


def plain(width=64):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, name="only")(image)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    x = layers.Dense(4, name="head")(model.output)
    model = keras.Model(image, x)
    randomize(model, 0)
    return model


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [(0.01, 48), (0.2, 48), (0.21, 32), (0.4, 32), (0.41, 16), (0.6, 16)],
)
def test_it_stays_on_the_lower_side_of_a_cliff(fraction, kept):
    """Between the edges filters cost nothing, and all of them stay.

    The classifier costs one tile whatever its input, and the convolution four.
    """
    times = table(lambda into, out: float(-(-out // 16)))
    wrapped = pgmpf_tf.wrap(plain(), rate=Budget(latency=fraction, latency_table=times))
    wrapped.apply_masks()
    assert wrapped.masks()["only"].sum() == kept


def test_the_narrowest_network_need_not_be_the_fastest():
    """One filter takes nine times as long as sixteen."""
    times = table(lambda into, out: 9.0 if out == 1 else float(-(-out // 16)))
    wrapped = pgmpf_tf.wrap(plain(), rate=Budget(latency=0.2, latency_table=times))
    wrapped.apply_masks()
    dense, small, more = predicted(times, plain(), wrapped)
    assert small <= 0.8 * dense < min(more)
    with pytest.raises(ValueError, match=r"with all that may go, 2\d\.\d% of the lat"):
        pgmpf_tf.wrap(plain(), rate=Budget(latency=0.4, latency_table=times))
    # Six filters have as few MACs, and are too slow; all that are fast have more.
    both = Budget(macs=0.9, latency=0.2, latency_table=times)
    with pytest.raises(ValueError, match=r"macs=0\.9, latency=0\.2 cannot be met"):
        pgmpf_tf.wrap(plain(), rate=both)


def test_whole_tiles_are_kept_where_parts_of_them_take_longer():
    """For 17 to 31 filters a kernel takes ever longer, and for 32 less than for 17."""

    def time(into, out):
        if 16 < out < 32:
            return 2.5 + 0.02 * (out - 17)
        return {16: 1.0, 32: 1.8}.get(out, 1.0 if out < 16 else 2.0 + out / 16)

    times = table(time, outs=(1, 16, 17, 24, 31, 32, 33, 48, 49, 64, 65, 80))
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(80, 3, name="second")(layers.Conv2D(64, 3, name="first")(image))
    x = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    # At equal rates the first would keep 26 when the second has 32 left.
    wrapped = pgmpf_tf.wrap(model, rate=Budget(latency=0.607, latency_table=times))
    wrapped.apply_masks()
    kept = {name: mask.sum() for name, mask in wrapped.masks().items()}
    assert kept == {"first": 32, "second": 32}


def test_the_costs_of_scatters_are_counted():
    cheap = Budget(latency=0.3, latency_table=table())
    pgmpf_tf.wrap(network(width=16), rate=cheap, coupling="independent")
    # With these no network of the queue is faster than the dense one.
    dear = Budget(latency=0.3, latency_table=table(gather=1e6))
    with pytest.raises(ValueError, match=r"The budget latency=0\.3 cannot be met"):
        pgmpf_tf.wrap(network(width=16), rate=dear, coupling="independent")
    pgmpf_tf.wrap(network(width=16), rate=dear)


def test_beside_other_budgets_all_are_met():
    times = table()
    for macs, latency in ((0.3, 0.6), (0.7, 0.1)):
        budget = Budget(macs=macs, latency=latency, latency_table=times)
        wrapped = pgmpf_tf.wrap(network(width=24), rate=budget)
        wrapped.apply_masks()
        dense, small, _ = predicted(times, network(width=24), wrapped)
        assert small <= (1 - latency) * dense
        left = pgmpf_tf.profile(pgmpf_tf.compact(wrapped)).macs
        assert left <= (1 - macs) * pgmpf_tf.profile(network(width=24)).macs


def measured(model):
    """A table of one network only."""
    analysis = analyze(model)
    families = {
        part.family
        for part in CostModel(model, analysis).segments(
            np.zeros(analysis.unit_count, bool)
        )
    }
    points = (Point(1.0, 1.0, 1.0), Point(64.0, 64.0, 64.0))
    times = dict.fromkeys(families, Times(points))
    return LatencyTable("tflite", "float32", 1, "nowhere", times)


def test_a_table_of_another_network_is_an_error():
    with pytest.raises(ValueError, match="`latency_table` must hold all"):
        pgmpf_tf.wrap(
            network(), rate=Budget(latency=0.5, latency_table=measured(plain()))
        )


def test_a_wrapped_model_keeps_its_table(tmp_path):
    model = plain()
    times = measured(model)
    path = tmp_path / "table.json"
    times.save(path)
    wrapped = pgmpf_tf.wrap(model, rate=Budget(latency=0.5, latency_table=path))
    path.unlink()
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    assert loaded.get_config()["pruning"] == wrapped.get_config()["pruning"]
    budget = Budget(latency=0.5, latency_table=times)
    assert Budget.from_config(budget.get_config()) == budget
