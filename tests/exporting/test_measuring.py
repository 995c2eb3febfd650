"""`measure` times every part at the widths that matter, once, and says what it did."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf.budgets.costs import CostModel
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.exporting import designs, measuring
from pgmpf_tf.exporting.formats.parts import Parts
from tests.graphs import randomize


class Counting(Parts):
    """A runtime whose times are known: by the sizes of what goes in and out."""

    precisions = ("float32", "int8")

    def __init__(self, precision, threads):
        self.calls = []

    def times(self, whole, inside=()):
        self.calls.append(len(whole) + len(inside))
        return tuple(
            [float(self.time(model)) for model in models] for models in (whole, inside)
        )

    @staticmethod
    def time(model):
        if len(model.layers) > 8:  # a whole network
            return 1000.0
        sizes = [int(np.prod(x.shape[1:])) for x in (*model.inputs, *model.outputs)]
        return sum(sizes)


@pytest.fixture
def runtime(monkeypatch):
    made = []

    def make(precision, threads):
        made.append(Counting(precision, threads))
        return made[-1]

    make.precisions = Counting.precisions
    monkeypatch.setitem(measuring.RUNTIMES, "counting", make)
    return made


def residual(width=48):
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(width, 3, padding="same", name="stem")(image)
    y = layers.Conv2D(width, 1, name="branch")(layers.ReLU()(x))
    y = layers.BatchNormalization()(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, name="head")(x))
    randomize(model, 0)
    return model


def measured(path, model=None, **arguments):
    arguments = {"runtime": "counting", "verbose": False} | arguments
    return pgmpf_tf.measure(model or residual(), path, **arguments)


def test_parts_are_measured_at_the_edges_of_stairs(tmp_path, runtime):
    table = measured(tmp_path / "table.json")
    families = {family: json.loads(family) for family in table.times}
    (branch,) = (
        times
        for family, times in table.times.items()
        if families[family].get("inputs") == [[6, 6, 48]]
        and len(families[family]["calls"]) == 2
    )
    outs = {out for _, out, *_ in branch.points}
    assert {16, 17, 32, 33, 48} <= outs
    assert all(len({i for i, o, *_ in branch.points if o == out}) == 1 for out in outs)
    for into, out, time, _ in branch.points:
        assert time == 36 * (into + out)


def test_where_multiples_of_inputs_matter_both_kinds_are_measured(
    tmp_path, runtime, monkeypatch
):
    monkeypatch.setattr(Counting, "input_step", 4, raising=False)
    table = measured(tmp_path / "table.json")
    assert table.input_step == 4
    (branch,) = (
        times
        for family, times in table.times.items()
        if '"inputs": [[6, 6, 48]' in family and len(json.loads(family)["calls"]) == 2
    )
    assert {into % 4 == 0 for into, *_ in branch.points} == {True, False}
    for out in {out for _, out, *_ in branch.points}:
        ins = [into for into, other, *_ in branch.points if other == out]
        assert len(ins) == len(set(ins)) <= 4


def test_the_scatters_of_independent_branches_are_measured(tmp_path, runtime):
    table = measured(tmp_path / "table.json")
    kinds = {json.loads(family).get("gather") for family in table.times}
    assert "scatter" in kinds


def test_heads_of_attention_are_measured(tmp_path, runtime):
    x = keras.Input((6, 12))
    y = layers.MultiHeadAttention(4, 3)(x, x)
    model = keras.Model(x, layers.Dense(2)(layers.Dense(8)(y)))
    table = measured(tmp_path / "table.json", model)
    (attention,) = (t for f, t in table.times.items() if "MultiHeadAttention" in f)
    assert {point.inside for point in attention.points} == {1, 2, 3, 4}


def test_whole_networks_are_timed_with_and_without_insertions(tmp_path, runtime):
    table = measured(tmp_path / "table.json")
    (known,) = table.networks.values()
    model = residual()
    assert known[0].entries == model.count_params()
    assert {network.milliseconds for network in known} == {1000.0}
    inserted = [network.insertions > 0 for network in known]
    assert any(inserted)
    assert not inserted[0]
    # More and less weights with each number of insertions: so their costs are told.
    assert len({network.entries for network in known}) == len(known)


def test_one_series_that_is_disturbed_does_not_count(tmp_path, runtime, monkeypatch):
    normal, series = Counting.times, []

    def disturbed(self, whole, inside=()):
        times, parts = normal(self, whole, inside)
        series.extend([len(whole)] * bool(whole))
        slower = 2.0 if len(series) == 2 else 1.0
        return [slower * time for time in times], parts

    monkeypatch.setattr(Counting, "times", disturbed)
    (known,) = measured(tmp_path / "table.json").networks.values()
    assert len(series) >= 3
    assert {network.milliseconds for network in known} == {1000.0}


def test_what_is_left_is_predicted(tmp_path, runtime):
    table = measured(tmp_path / "table.json")
    model = residual()
    analysis = analyze(model)
    costs = CostModel(model, analysis)
    removed = np.zeros(analysis.unit_count, bool)
    removed[:7] = True
    parts = list(costs.segments(removed))
    spatial = [36, 36, 36, 36, 1, 1]
    total = table.milliseconds(parts)
    # stem; ReLU and branch are parts of their own, as the stem has two readers.
    expected = 36 * (3 + 41) + 36 * 82 + 36 * 82 + (36 * 82 + 41) + 41 + 4
    assert total == pytest.approx(expected, rel=1e-6), spatial
    assert table.networks[costs.parts.network][0].milliseconds == 1000.0


def test_what_a_file_holds_is_not_measured_again(tmp_path, runtime):
    first = measured(tmp_path / "table.json")
    assert sum(runtime[0].calls) > 20
    assert measured(tmp_path / "table.json") == first
    assert not runtime[1].calls
    measured(tmp_path / "table.json", residual(width=40))
    both = pgmpf_tf.LatencyTable.load(tmp_path / "table.json")
    assert len(both.networks) == 2
    assert first.times.items() <= both.times.items()


def test_a_run_that_was_interrupted_goes_on(tmp_path, runtime, monkeypatch):
    monkeypatch.setattr(measuring, "_CHUNK", 1)
    whole = measured(tmp_path / "whole.json")
    calls = len(runtime[0].calls)
    normal = Counting.times

    def interrupted(self, whole, inside=()):
        if len(self.calls) == 3:
            raise KeyboardInterrupt
        return normal(self, whole, inside)

    monkeypatch.setattr(Counting, "times", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "table.json")
    monkeypatch.setattr(Counting, "times", normal)
    assert measured(tmp_path / "table.json") == whole
    assert len(runtime[-1].calls) == calls - 3


def test_a_machine_that_gets_slower_makes_no_difference(tmp_path, runtime, monkeypatch):
    monkeypatch.setattr(measuring, "_CHUNK", 1)
    steady = measured(tmp_path / "steady.json")
    normal = Counting.times

    def slowing(self, whole, inside=()):
        slower = 1.0 + 0.1 * len(self.calls)
        return tuple(
            [slower * time for time in times] for times in normal(self, whole, inside)
        )

    monkeypatch.setattr(Counting, "times", slowing)
    table = measured(tmp_path / "table.json")
    for family, times in steady.times.items():
        np.testing.assert_allclose(table.times[family].points, times.points)
    for network, pairs in steady.networks.items():
        np.testing.assert_allclose(table.networks[network], pairs)
    # Nor is another run slower because the machine is.
    wider = measured(tmp_path / "table.json", residual(width=64))
    again = measured(tmp_path / "steady.json", residual(width=64))
    for family, times in again.times.items():
        np.testing.assert_allclose(wider.times[family].points, times.points)


def test_open_sizes_are_refused(tmp_path):
    image = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match="`model` must have inputs of fixed sizes"):
        pgmpf_tf.measure(keras.Model(image, x), tmp_path / "table.json")
    assert not list(tmp_path.iterdir())


def test_a_table_of_another_setting_is_refused(tmp_path, runtime):
    path = tmp_path / "table.json"
    measured(path)
    for name, value in (("threads", 2), ("precision", "int8"), ("runtime", "tflite")):
        with pytest.raises(ValueError, match=f"`path` must be .* the same {name}"):
            measured(path, **{name: value})


def test_parts_that_do_not_run_alone_are_named_and_count_as_nothing(
    tmp_path, runtime, monkeypatch
):
    normal = Counting.times

    def refusing(self, whole, inside=()):
        if any(len(model.inputs) == 2 for model in inside):
            raise ValueError("no Add here")
        return normal(self, whole, inside)

    monkeypatch.setattr(Counting, "times", refusing)
    monkeypatch.setattr(measuring, "_CHUNK", 1)
    monkeypatch.setattr(designs, "LEVELS", 1)
    with pytest.warns(UserWarning, match=r"add.* is not counted: no Add here"):
        table = measured(tmp_path / "table.json")
    assert sum(not times.points for times in table.times.values()) == 1


@pytest.mark.parametrize(
    "runtime", ["tflite", "onnx", pytest.param("saved_model", marks=pytest.mark.slow)]
)
def test_a_budget_is_met_by_the_table_of_each_runtime(tmp_path, monkeypatch, runtime):
    monkeypatch.setattr(designs, "LEVELS", 4)
    monkeypatch.setattr(measuring, "TURNS", {"grouped": 1})

    def plain():
        # So large that what a call costs, on a busy machine too, is next to nothing.
        image = keras.Input((32, 32, 8))
        x = layers.Conv2D(64, 3, activation="relu", name="first")(image)
        x = layers.Conv2D(64, 3, activation="relu", name="second")(x)
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(image, layers.Dense(4, name="head")(x))
        randomize(model, 0)
        return model

    path = tmp_path / "table.json"
    table = measured(path, plain(), runtime=runtime)
    assert (table.runtime, table.precision) == (runtime, "float32")
    assert all(times.points for times in table.times.values())
    budget = pgmpf_tf.Budget(latency=0.4, latency_table=path)
    wrapped = pgmpf_tf.wrap(plain(), rate=budget)
    wrapped.apply_masks()
    model = plain()
    analysis = analyze(model)
    costs = CostModel(model, analysis)
    removed = np.zeros(analysis.unit_count, bool)

    def predicted():
        return table.milliseconds(costs.segments(removed), costs.parts.network)

    dense = predicted()
    for group in analysis.groups:
        removed[group.units] = wrapped.masks()[group.name] == 0
    assert removed.any()
    assert 0.0 < predicted() <= 0.6 * dense


def test_a_runtime_that_is_missing_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("pgmpf_tf.exporting.formats.onnx.Onnx.packages", ("of_nobody",))
    with pytest.raises(
        ImportError, match=r"'onnx' needs of_nobody.*pip install 'pgmpf_tf\[onnx\]'"
    ):
        measured(tmp_path / "table.json", runtime="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", ["onnx", "saved_model"])
def test_integers_are_for_tflite_only(tmp_path, runtime):
    with pytest.raises(
        ValueError, match=r"`precision` must be one of 'float32'\..*'int8'"
    ):
        measured(tmp_path / "table.json", runtime=runtime, precision="int8")
    assert not list(tmp_path.iterdir())
