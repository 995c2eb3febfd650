import json
from pathlib import Path

import pytest

from experiments import sweep
from experiments.run.directory import RunDirectory
from experiments.studies import sweep_records
from experiments.sweep import plan
from pgmpf_tf._files import FolderInUse

SWEEPS = Path(sweep.__file__).parent / "sweeps"
SMALL = {
    "settings": {
        "train_examples": 64,
        "batch_size": 32,
        "epochs": 2,
        "formats": [],
        "pruning": ["dropout=0.25"],
    },
    "baseline": {"dense_epochs": 1},
    "variants": {"pgmpf": {}, "sfp": {"method": "sfp"}},
    "rates": [0.4],
    "seeds": [3],
}


def test_every_variant_starts_from_its_seeds_baseline(tmp_path):
    content = SMALL | {"rates": [0.4, 0.7], "seeds": [0, 1]}
    planned = plan(content, tmp_path)
    assert len(planned) == 2 * (1 + 2 * 2)
    assert len({run.folder for run in planned}) == len(planned)
    for index, run in enumerate(planned):
        if run.variant == "baseline":
            assert run.settings.method == "baseline"
            assert run.settings.dense_epochs == 1
            continue
        source = Path(run.settings.baseline)
        (base,) = [other for other in planned[:index] if other.folder == source.parent]
        assert source.name == "dense.keras"
        assert base.settings.seed == run.settings.seed
        assert run.settings.pruning == ("dropout=0.25",)


def test_variants_may_have_their_own_rates_and_anothers_baseline(tmp_path):
    content = {k: v for k, v in SMALL.items() if k != "rates"}
    content["variants"] = {"a": {"rate": 0.3}, "b": {"rate": 0.6}}
    content["baseline"] = "runs/other/baseline/seed{seed}"
    planned = plan(content, tmp_path)
    assert [(run.variant, run.settings.rate) for run in planned] == [
        ("a", 0.3),
        ("b", 0.6),
    ]
    expected = str(Path("runs/other/baseline/seed3/dense.keras"))
    assert {run.settings.baseline for run in planned} == {expected}


def test_texts_of_a_variant_may_name_seed_and_rate(tmp_path):
    variant = {
        "method": "baseline",
        "baseline": None,
        "dense_epochs": 2,
        "model": "runs/rate{rate}/seed{seed}.keras",
    }
    planned = plan(SMALL | {"variants": {"scratch": variant}}, tmp_path)
    assert planned[1].settings.model == "runs/rate0.4/seed3.keras"
    assert (planned[1].settings.baseline, planned[1].settings.dense_epochs) == (None, 2)


def test_a_value_may_depend_on_the_rate(tmp_path):
    variant = {"epochs": {"0.4": 3, "0.7": 5}}
    content = SMALL | {"variants": {"a": variant}, "rates": [0.4, 0.7]}
    _, first, second = plan(content, tmp_path)
    assert (first.settings.epochs, second.settings.epochs) == (3, 5)
    with pytest.raises(ValueError, match=r"`epochs` has values for 0\.4, 0\.7, "):
        plan(content | {"rates": [0.5]}, tmp_path)


def test_a_variant_may_have_fewer_seeds(tmp_path):
    variants = {"pgmpf": {}, "sfp": {"method": "sfp", "seeds": [0, 2]}}
    content = SMALL | {"seeds": [0, 1, 2], "variants": variants}
    found = [(run.variant, run.settings.seed) for run in plan(content, tmp_path)]
    assert [seed for variant, seed in found if variant == "pgmpf"] == [0, 1, 2]
    assert [seed for variant, seed in found if variant == "sfp"] == [0, 2]
    with pytest.raises(ValueError, match=r"`seeds` of sfp must be among .* \[2\]"):
        plan(content | {"seeds": [0, 1]}, tmp_path)


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.json")), ids=lambda p: p.stem)
def test_the_sweeps_of_the_repository_can_be_planned(path, tmp_path):
    content = json.loads(path.read_text())
    planned = plan(content, tmp_path)
    # What was only tried to choose from needs no spread.
    seeds = 1 if path.stem == "schedules" or "learning_rates" in path.stem else 3
    assert len({run.settings.seed for run in planned}) >= seeds
    # What a variant is held against is there for each of its seeds, at each rate.
    cells = {}
    for run in planned:
        cells.setdefault((run.variant, run.settings.rate), set()).add(run.settings.seed)
    assert all(len(found) >= seeds for found in cells.values())
    reference = content.get("reference")
    for (variant, rate), found in cells.items():
        if reference and variant != "baseline":
            assert found <= cells[reference, rate]


def test_the_main_sweep_compares_the_whole_family(tmp_path):
    content = json.loads((SWEEPS / "main.json").read_text())
    planned = [run for run in plan(content, tmp_path) if run.variant != "baseline"]
    methods = {"baseline", "hard", "sfp", "asfp", "asrfp", "pgmpf_no_dropout"}
    methods.add("pgmpf_published")
    assert {run.settings.method for run in planned} == methods
    assert {run.settings.rate for run in planned} == {0.4, 0.7}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "pgmpf"}, "A sweep has baseline, seeds, variants and may have"),
        ({"variants": {"a": {"speed": 1}}}, "Unknown settings speed"),
        ({"reference": "hard"}, "`reference` must be one of pgmpf, sfp"),
        ({"rates": [1.0]}, "rate=1.0"),
    ],
)
def test_what_is_not_a_sweep_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(SMALL | changes, tmp_path)
    with pytest.raises(ValueError, match="A sweep has"):
        plan([], tmp_path)


def test_a_sweep_runs_once_and_becomes_a_table(tmp_path, capsys):
    planned = plan(SMALL, tmp_path / "small")
    assert sweep.execute(planned) == []
    records = sweep_records.collect(tmp_path / "small")
    dense, *pruned = records
    assert dense["variant"] == "dense"
    assert {record["variant"] for record in pruned} == {"pgmpf", "sfp"}
    assert {len(record["curve"]) for record in pruned} == {2}
    # What the dense network has cost stands in the run of the baseline.
    assert all(record["cost"]["macs"] > 0 for record in records)
    capsys.readouterr()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert sweep.execute(planned) == []
    assert "3 of 3 runs are finished" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_what_is_on_record_is_not_done_again(tmp_path):
    content = SMALL | {"seeds": [3, 4]}
    planned = plan(content, tmp_path / "sweep")
    done = [run for run in planned if run.settings.seed == 3]
    records = [
        {"variant": run.variant, "settings": without(run.settings, tmp_path / "sweep")}
        for run in done
    ]

    def left(known):
        return sweep.not_on_record(planned, known, tmp_path / "sweep")

    assert left([]) == planned
    # Neither is the baseline, which nothing starts from any more.
    assert left(records) == [run for run in planned if run not in done]
    # But for any of its runs it is.
    assert left(records[:-1]) == [done[0], done[-1], *planned[len(done) :]]
    # A record of other settings stands for none.
    records[-1]["settings"]["epochs"] += 1
    assert left(records) == left(records[:-1])


def without(settings, folder):
    """What the record of a run has, once it was written and read."""
    text = json.dumps(settings.to_json())
    return json.loads(text.replace(f"{folder}/", ""))


def test_a_run_of_another_process_is_left_to_it(tmp_path):
    planned = plan(SMALL | {"variants": {}}, tmp_path / "small")
    (baseline,) = planned
    with RunDirectory(baseline.folder, baseline.settings).opened():
        ((left, error),) = sweep.execute(planned)
    assert left is baseline
    assert isinstance(error, FolderInUse)


def test_a_failed_run_does_not_stop_the_others(tmp_path):
    content = SMALL | {"baseline": str(tmp_path / "nowhere{seed}")}
    planned = plan(content, tmp_path / "small")
    failed = sweep.execute(planned)
    assert [run.variant for run, _ in failed] == ["pgmpf", "sfp"]
    assert all("`baseline` must be a .keras file" in str(error) for _, error in failed)
