import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import pgmpf_tf
from experiments.studies import defaults, equal_times, widths
from pgmpf_tf.exporting.formats.parts import Parts
from pgmpf_tf.exporting.measuring import RUNTIMES

# Trainings of a residual network, and searches for budgets.
slow = pytest.mark.slow


class Counting(Parts):
    """A runtime on which a network takes as long as its multiply-accumulates say."""

    precisions = widths.PRECISIONS

    def __init__(self, precision, threads):
        pass

    def times(self, whole, inside=()):
        return tuple(
            [1e-6 * pgmpf_tf.profile(model).macs + 1e-4 for model in models]
            for models in (whole, inside)
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plan = widths.Plan(
        train=64,
        held_out=32,
        size=8,
        widths=(24, 32, 40),
        measured_on=32,
        dense_epochs=1,
        epochs=1,
        batch_size=32,
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 8, 8, 3)).astype("float32")
    parts = dict.fromkeys(("train", "held_out", "test"), (images, np.arange(64) % 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "load", lambda source, tfds_dir: parts)
        patch.setitem(RUNTIMES, "tflite", Counting)
        yield widths.Study(plan, tmp_path_factory.mktemp("widths"), None)


@pytest.fixture(scope="module")
def records(study):
    return [
        record
        for precision in widths.PRECISIONS
        for record in study.runs(precision, 0, widths.WAYS)
    ]


@slow
def test_all_take_as_long_as_uniform_widths(records):
    assert [record["way"] for record in records] == [*widths.WAYS] * 2
    for record in records:
        assert record["of_uniform"] <= equal_times.SLOWER
        assert record["of_uniform"] >= 0.9
        assert record["of_dense"] <= 0.5 * equal_times.SLOWER


@slow
def test_uniform_widths_are_uniform_and_the_others_are_chosen(study, records):
    groups = [*pgmpf_tf.wrap(study.dense(0), 0.5).masks().values()]
    for record in records:
        fractions = [n / len(g) for n, g in zip(record["kept"], groups, strict=True)]
        if record["way"] == widths.UNIFORM:
            assert max(fractions) - min(fractions) < 0.1
        else:
            assert max(fractions) - min(fractions) > 0.2


@slow
def test_what_is_there_is_not_done_again(study, records):
    path = study.folder / "0" / "float32_per_MAC.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {"test": 0.123}), "utf-8")
    assert study.runs("float32", 0, widths.WAYS)[2]["test"] == 0.123
    other = dataclasses.replace(study.plan, epochs=2)
    with pytest.raises(ValueError, match="other settings"):
        widths.Study(other, study.folder, None).runs("float32", 0, widths.WAYS)


def test_table_pairs_by_seed(tmp_path):
    gains = {widths.UNIFORM: (0.0, 0.0), widths.BY_TIME: (0.01, 0.03)}
    records = [
        {
            "way": way,
            "precision": "int8",
            "seed": seed,
            "test_file": start + gains[way][seed],
            "kept": [3, 4],
            **dict.fromkeys(("dense", "test", "before"), 0.5),
            **dict.fromkeys(("of_dense", "of_uniform", "macs"), 0.5),
        }
        for seed, start in enumerate((0.4, 0.6))
        for way in gains
    ]
    widths.write(widths.Plan(), records, tmp_path)
    content = json.loads((tmp_path / "widths.json").read_text("utf-8"))
    assert [run["seed"] for run in content["runs"]] == [0, 1, 0, 1]
    means, _ = (tmp_path / "widths.md").read_text("utf-8").split("The dense networks")
    (row,) = (
        line for line in means.splitlines() if line.startswith("| int8 | per milli")
    )
    assert "| 52.00 ± 15.56 | 2.00 ± 1.41 |" in row


@pytest.mark.parametrize(
    ("amx", "expected"), [(False, ["refused", False]), (True, [True])]
)
def test_amx_is_refused_before_anything_runs(amx, expected, monkeypatch, tmp_path):
    done = []

    def study(plan, runs_dir, tfds_dir):
        done.append(plan.amx)
        return SimpleNamespace(plan=plan)

    given = {"ways": [], "precisions": [], "seeds": 0, "tfds_dir": None}
    flags = SimpleNamespace(**given, amx=amx, runs_dir=tmp_path, output=tmp_path)
    monkeypatch.setattr(widths, "flags", SimpleNamespace(FLAGS=flags))
    monkeypatch.setattr(widths, "refuse_amx", lambda: done.append("refused"))
    monkeypatch.setattr(widths, "Study", study)
    monkeypatch.setattr(widths, "write", lambda *_: None)
    widths.main([])
    assert done == expected
