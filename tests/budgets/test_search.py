"""A budget is met, whatever the strategy, and by as little as a unit allows."""

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf import Budget
from pgmpf_tf.budgets import removals, search
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.budgets.search import find_rates
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.scores.criteria import resolve
from tests.graphs import randomize


def network(seed=0, width=12):
    """Blocks with a residual stream, a depthwise convolution and a wide head."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, padding="same", name="stem")(image)
    for block in range(2):
        y = layers.Conv2D(2 * width, 1, use_bias=False, name=f"b{block}_expand")(x)
        y = layers.BatchNormalization()(y)
        y = layers.ReLU()(y)
        y = layers.DepthwiseConv2D(3, padding="same", name=f"b{block}_depth")(y)
        y = layers.Conv2D(width, 1, name=f"b{block}_project")(y)
        x = layers.Add()([x, y])
    x = layers.Conv2D(30, 3, strides=2, name="head")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(5)(x))
    randomize(model, seed)
    return model


def small_network(model, **arguments):
    wrapped = pgmpf_tf.wrap(model, **arguments)
    wrapped.apply_masks()
    return pgmpf_tf.compact(wrapped), wrapped


class Measured:
    """Drops as `pgmpf_tf.sensitivity` measures them: the head matters, all else not."""

    def __init__(self, model, coupling="grouped"):
        groups = analyze(model, coupling=coupling).groups
        self.groups = tuple(group.name for group in groups)
        self.rates = (0.25, 0.5, 0.75)
        self.drop = np.array(
            [
                [0.3, 0.6, 0.9] if name == "head" else [0.1, 0.09, 0.2]
                for name in self.groups
            ]
        )


@pytest.mark.parametrize("fraction", [0.2, 0.8])
@pytest.mark.parametrize("resource", ["macs", "params"])
@pytest.mark.parametrize("strategy", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("coupling", ["grouped", "independent"])
def test_a_budget_is_met_and_one_unit_less_would_not_do(
    coupling, strategy, resource, fraction
):
    model = network()
    drops = Measured(model, coupling) if strategy == "sensitivity" else None
    budget = Budget(**{resource: fraction}, strategy=strategy, sensitivity=drops)
    small, wrapped = small_network(model, rate=budget, coupling=coupling)
    allowed = (1 - fraction) * getattr(pgmpf_tf.profile(network()), resource)
    left = getattr(pgmpf_tf.profile(small), resource)
    assert left <= allowed
    model = network()
    analysis = analyze(model, coupling=coupling)
    removed = np.zeros(analysis.unit_count, bool)
    masks = wrapped.masks()
    for group in analysis.groups:
        removed[group.units] = masks[group.name] == 0
    # Which one is the last to go, the strategy's queue says.
    costs = CostModel(model, analysis)
    one_less = []
    for group in analysis.groups:
        fewer = removed.copy()
        gone = group.units[removed[group.units]]
        fewer[gone[:1]] = False
        one_less.append(getattr(costs.cost(fewer), resource))
    assert max(one_less) > allowed


@pytest.mark.feature("`Budget` of MACs and parameters")
def test_several_budgets_are_all_met():
    dense = pgmpf_tf.profile(network())
    for budget in (Budget(macs=0.3, params=0.6), Budget(macs=0.6, params=0.3)):
        small, _ = small_network(network(), rate=budget)
        cost = pgmpf_tf.profile(small)
        assert cost.macs <= (1 - budget.macs) * dense.macs
        assert cost.params <= (1 - budget.params) * dense.params


def rates_of(model, **arguments):
    analysis = analyze(model)
    budget = Budget(**arguments)
    scores = resolve("l2").scores(analysis.groups)
    rates = find_rates(model, analysis, scores, budget)
    return dict(zip((g.name for g in analysis.groups), rates, strict=True))


def test_uniform_rates_differ_by_a_unit_at_most():
    model = network()
    rates = rates_of(model, macs=0.5)
    sizes = {g.name: len(g.units) for g in analyze(model).groups}
    lowest = max(rate - 1 / sizes[name] for name, rate in rates.items())
    assert all(rate >= lowest - 1e-9 for rate in rates.values())


def test_global_takes_the_lowest_scores_of_all():
    model = network()
    analysis = analyze(model)
    scores_of_groups = resolve("l2").scores(analysis.groups)
    rates = rates_of(model, macs=0.5, strategy="global")
    gone, kept = [], []
    for group, scores in zip(analysis.groups, scores_of_groups, strict=True):
        scores = np.sort(scores) / scores.mean()
        removed = round(rates[group.name] * len(scores))
        gone += scores[:removed].tolist()
        # A group's last unit stays, however low it scores.
        kept += (
            scores[removed:-1].tolist()
            if removed == len(scores) - 1
            else (scores[removed:].tolist())
        )
    assert max(gone) <= min(kept)
    assert len(set(rates.values())) > 1


@pytest.mark.parametrize(("harm", "loses"), [(0.001, True), (10.0, False)])
def test_filters_go_where_that_harms_least(harm, loses):
    model = network()
    table = Measured(model)
    table.drop[table.groups.index("head")] *= harm
    rates = rates_of(model, macs=0.5, strategy="sensitivity", sensitivity=table)
    assert (rates["head"] >= 0.7) == loses
    assert (rates["head"] == 0) == (not loses)


def test_a_group_that_breaks_the_network_is_not_cheap_since_that_is_the_worst():
    """Accuracy stays at chance, however much more of the group goes."""
    model = network()
    table = Measured(model)
    table.drop[:] = [0.3, 0.7, 1.1]
    table.drop[table.groups.index("head")] = [0.9, 0.95, 0.95]
    rates = rates_of(model, macs=0.5, strategy="sensitivity", sensitivity=table)
    others = [rate for name, rate in rates.items() if name != "head"]
    assert rates["head"] < min(others)


def test_what_neighbors_save_too_is_not_counted_twice(monkeypatch):
    """Two convolutions in a row save less together than the sum of both alone."""
    model = network(width=40)
    analysis = analyze(model)
    table = Measured(model)
    lost = []
    for seed in range(6):
        steps = np.random.default_rng(seed).exponential(size=table.drop.shape)
        table.drop = np.cumsum(steps**2, axis=1)
        budget = Budget(macs=0.7, strategy="sensitivity", sensitivity=table)
        for turns in (1, 3):
            monkeypatch.setattr(search, "_TURNS", turns)
            rates = rates_of(
                model, macs=0.7, strategy="sensitivity", sensitivity=table
            ).values()
            kept = [
                round((1 - rate) * len(group.units))
                for rate, group in zip(rates, analysis.groups, strict=True)
            ]
            lost.append(removals.harm(analysis.groups, budget, kept))
    once, again = np.reshape(lost, (-1, 2)).T
    assert (again <= once).all()
    # Without a single one the rule would do nothing.
    assert (again < 0.9 * once).any()


def test_what_is_lost_altogether_goes_last():
    model = network()
    table = Measured(model)
    # The others rise with every filter, so that the cheap quarter is worth taking.
    table.drop[:] = [0.2, 0.5, 0.9]
    table.drop[table.groups.index("head")] = [0.01, np.inf, np.inf]
    rates = rates_of(model, macs=0.5, strategy="sensitivity", sensitivity=table)
    assert 0 < rates["head"] <= 0.25


def test_min_keep_and_fixed_rates_and_round_to():
    model = network(width=16)
    rates = rates_of(
        model, macs=0.7, min_keep={"head": 20, "*": 0.25}, rates={"b0_depth": 0.125}
    )
    sizes = {g.name: len(g.units) for g in analyze(model).groups}
    kept = {name: round((1 - rates[name]) * sizes[name]) for name in rates}
    assert kept["head"] >= 20
    assert all(kept[name] >= sizes[name] / 4 for name in rates)
    fixed = next(g for g in analyze(model).groups if "b0_depth" in g.layers)
    assert rates[fixed.name] == 0.125
    small, wrapped = small_network(
        network(width=16), rate=Budget(macs=0.5), round_to=4, exclude="head"
    )
    masks = wrapped.masks()
    assert all(mask.sum() % 4 == 0 for mask in masks.values())
    assert pgmpf_tf.profile(small).macs <= pgmpf_tf.profile(model).macs / 2


def test_a_latency_budget_is_measured_and_shown(capsys):
    pytest.importorskip("tensorflow")  # writes the files that are timed
    # Large enough that time follows size on any machine.
    image = keras.Input((32, 32, 8))
    x = image
    for _ in range(3):
        x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    _, wrapped = small_network(model, rate=Budget(latency=0.4))
    removed = {name: 1 - mask.mean() for name, mask in wrapped.masks().items()}
    assert all(0 < rate < 1 for rate in removed.values())
    shown = capsys.readouterr().out
    assert "latency search" in shown
    assert "of the time" in shown


def test_training_ends_at_the_budget_and_files_remember_it(tmp_path):
    model = network()
    dense = pgmpf_tf.profile(model)
    budget = Budget(macs=0.5, strategy="sensitivity", sensitivity=Measured(model))
    wrapped = pgmpf_tf.wrap(model, rate=budget, epochs=2, seed=0)
    wrapped.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    wrapped.fit(x, np.zeros((16, 5)), epochs=1, verbose=0)
    wrapped.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded._pruner.rates == wrapped._pruner.rates
    loaded.fit(x, np.zeros((16, 5)), epochs=2, initial_epoch=1, verbose=0)
    small = pgmpf_tf.compact(loaded)
    assert 0.45 * dense.macs < pgmpf_tf.profile(small).macs <= 0.5 * dense.macs


def residual_stream():
    """A stream that a channel leaves when all branches have lost it."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same")(image)
    for _ in range(2):
        x = layers.Add()([x, layers.Conv2D(32, 3, padding="same")(layers.ReLU()(x))])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(5)(x))


@pytest.mark.parametrize("strategy", ["uniform", "global"])
def test_the_budget_is_met_by_the_filters_that_go_in_the_end(strategy):
    model = residual_stream()
    randomize(model, 0)
    dense = pgmpf_tf.profile(model).macs
    budget = Budget(macs=0.6, strategy=strategy)
    wrapped = pgmpf_tf.wrap(model, rate=budget, coupling="independent")
    foreseen = wrapped._pruner.rates
    moved = 0
    for seed in range(1, 6):
        randomize(model, seed)  # as if trained: other filters are the lowest now
        wrapped.apply_masks()
        moved += wrapped._pruner.rates != foreseen
        left = pgmpf_tf.profile(pgmpf_tf.compact(wrapped)).macs / dense
        # One unit of 32 in one of three layers is 1.5 % of this network.
        assert 0.4 - 0.02 < left <= 0.4
    assert moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"macs": 0.999}, r"macs=0.999 cannot be met: .* \d+\.\d% of the macs"),
        ({"macs": 0.5, "min_keep": 0.9}, "cannot be met"),
        ({"macs": 0.5, "min_keep": {"nose": 3}}, "`min_keep` .*'nose'"),
        ({"macs": 0.5, "rates": {"nose": 0.3}}, "`rates` .*'nose'"),
        (
            {"macs": 0.5, "rates": {"head": 0.9}, "min_keep": {"head": 10}},
            "`rates` and `min_keep` contradict",
        ),
    ],
)
def test_what_cannot_be_met_is_said(arguments, message):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        pgmpf_tf.wrap(model, rate=Budget(**arguments))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_budgets_need_no_sizes():
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(16, 3)(layers.Conv2D(16, 3, strides=2)(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    dense = pgmpf_tf.profile(model)
    small, _ = small_network(model, rate=Budget(params=0.4, macs=0.3))
    assert small.count_params() <= dense.params * 0.6
    assert pgmpf_tf.profile(small).macs <= dense.macs * 0.7


def test_a_sensitivity_of_another_model_is_refused():
    drops = Measured(network())
    drops.groups = ("other", *drops.groups[1:])
    budget = Budget(macs=0.5, strategy="sensitivity", sensitivity=drops)
    with pytest.raises(ValueError, match="has not measured the groups"):
        pgmpf_tf.wrap(network(), rate=budget)


def test_layers_that_cannot_be_counted_are_named():
    class Product(layers.Layer):
        def build(self, shape):
            self.matrix = self.add_weight(shape=(shape[-1], 4))

        def call(self, x, training=None):
            return x @ self.matrix if training else 2 * (x @ self.matrix)

    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3)(layers.Conv2D(8, 3)(image))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x))
    model = keras.Model(image, Product(name="odd")(x))
    with pytest.warns(UserWarning, match="leave out those of: odd"):
        pgmpf_tf.wrap(model, rate=Budget(macs=0.3))
