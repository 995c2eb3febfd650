import json
import re
import statistics
from pathlib import Path

import pytest
from matplotlib import image

from experiments import tables
from experiments.studies import figures, sweep_records
from experiments.studies.sweep_records import DENSE, UNSTRUCTURED

ACCURACIES = {
    ("pgmpf", 0.7): (0.90, 0.92, 0.88),
    ("sfp", 0.7): (0.85, 0.91, 0.80),
    ("hard", 0.7): (0.60, 0.70, 0.65),
    ("pgmpf", 0.4): (0.93, 0.94, 0.92),
    ("sfp", 0.4): (0.94, 0.94, 0.93),
}


def record(variant, rate, seed, accuracy, **changes):
    return {
        "variant": variant,
        "rate": rate,
        "budget": [],
        "seed": seed,
        "accuracy": accuracy,
        "accuracies": {"test": accuracy},
        "macs": 250,
        "params": 40,
        "bytes": None,
        "gzip_bytes": None,
        "latency_ms": None,
        "pruned": True,
        "curve": [0.1, accuracy / 2, accuracy],
        "cost": {"macs": 6e9, "seconds": 30, "processor_seconds": 50, "load": 1.5},
        "settings": {
            "model": "net",
            "dataset": "images",
            "train_examples": 1000,
            "method": variant,
        },
        "environment": {
            "cores": 2,
            "cpu": "a processor",
            "tensorflow": "2",
            "keras": "3",
        },
    } | changes


@pytest.fixture
def records():
    whole = {"macs": 1000, "curve": [], "pruned": False}
    dense = [record(DENSE, 0.0, seed, 0.95, **whole) for seed in range(3)]
    return dense + [
        record(variant, rate, seed, accuracy)
        for (variant, rate), accuracies in ACCURACIES.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def test_rows_have_mean_spread_and_the_paired_difference(records):
    rows = {(row["variant"], row["rate"]): row for row in tables.summarize(records)}
    row = rows["pgmpf", 0.7]
    assert row["accuracy"] == pytest.approx(0.90)
    assert row["accuracy_std"] == pytest.approx(0.02)
    assert row["macs_removed"] == 0.75
    assert row["cost"] == {
        "macs": 6e9,
        "seconds": 30,
        "processor_seconds": 50,
        "load": 1.5,
    }
    assert row["cost_of_dense"] == 1
    differences = (0.05, 0.01, 0.08)
    assert row["reference"] == "sfp"
    assert row["difference"] == pytest.approx(statistics.mean(differences))
    assert row["difference_std"] == pytest.approx(statistics.stdev(differences))
    assert rows["sfp", 0.7]["difference"] == pytest.approx(-row["difference"])
    assert rows["hard", 0.7]["reference"] == "pgmpf"
    assert rows["pgmpf", 0.4]["reference"] == "sfp"
    assert rows["pgmpf", 0.4]["difference"] < 0


def test_the_interval_is_students():
    # 12.706 is the quantile for one degree of freedom, 4.303 for two.
    assert tables.interval([1.0, 3.0]) == pytest.approx([2 - 12.706, 2 + 12.706], 1e-4)
    low, high = tables.interval([1.0, 2.0, 3.0])
    assert high - 2 == 2 - low == pytest.approx(4.303 / 3**0.5, 1e-3)
    assert tables.interval([1.0]) is None


def test_a_named_reference_is_what_all_others_are_compared_with(records):
    rows = tables.summarize(records, "hard")
    found = {
        (row["variant"], row["rate"]): row["reference"]
        for row in rows
        if "reference" in row
    }
    assert found == {("pgmpf", 0.7): "hard", ("sfp", 0.7): "hard"}
    assert "The difference to `hard`" in tables.markdown("main", records, "hard")


def test_variants_with_their_own_rates_are_compared_with_each_other(records):
    chosen = [
        row
        for row in records
        if (row["variant"], row["rate"]) in {("pgmpf", 0.7), ("sfp", 0.4), (DENSE, 0.0)}
    ]
    rows = {row["variant"]: row for row in tables.summarize(chosen)}
    assert rows["pgmpf"]["reference"] == "sfp"
    assert rows["sfp"]["difference"] == pytest.approx(0.11 / 3)


def test_one_run_alone_has_no_spread_and_no_rival(records):
    (row,) = tables.summarize(records[3:4])
    assert row["accuracy_std"] is None
    assert "difference" not in row
    text = tables.markdown("one", records[3:4])
    title = "| variant | rate | seeds | accuracy | MACs | parameters | processor s |"
    assert title in text
    assert "| pgmpf | 0.7 | 1 | 90.00 | 250 | 40 | 50 | 6e+09 |" in text


def test_choices_are_made_by_what_is_held_out(records):
    assert "held out |" not in tables.markdown("main", records)
    for one in records:
        one["settings"]["held_out"] = None  # a tenth
        one["curve"] = one["curve"] and [0.1, one["accuracy"] - 0.01]
    rows = tables.summarize(records)
    found = {(row["variant"], row["rate"]): row["held_out"] for row in rows}
    assert found["pgmpf", 0.7] == pytest.approx(89.0)
    assert found[DENSE, 0.0] is None
    assert "| held out |" in tables.markdown("main", records)


def test_the_table_has_a_row_per_variant_and_rate(records):
    text = tables.markdown("main", records)
    difference = "+4.67 [-4.06, +13.39] (sfp)"
    row = f"| pgmpf | 0.7 | 3 | 90.00 ± 2.00 | {difference} | 250 | 75.0% | 40 |"
    assert row in text
    assert "| dense | 0.0 | 3 | 95.00 ± 0.00 | - | 1,000 | - | 40 |" in text
    assert text.count("\n| ") == 1 + len(ACCURACIES) + 2
    assert "2 cores (a processor)" in text
    assert "net on images (first 1,000 training images), 3 epochs of pruning" in text
    assert "9 minutes of training" in text


def test_the_table_says_which_seeds_are_of_which_machine(records):
    assert "seeds" not in tables.markdown("main", records).split("\n\n")[1]
    for other in records:
        if other["seed"] > 0:
            other["environment"] = other["environment"] | {"cpu": "another"}
    text = tables.markdown("main", records)
    assert "2 cores (a processor), TensorFlow 2, Keras 3, seeds 0; 2 cores" in text
    assert "(another), TensorFlow 2, Keras 3, seeds 1, 2; 9 minutes" in text


def test_outside_rivals_are_compared_but_are_no_rivals(records):
    outside = [
        record(name, 0.7, seed, 0.94, macs=macs, curve=[], pruned=False)
        for name, macs in ((UNSTRUCTURED, 1000), ("scratch", 250))
        for seed in range(3)
    ]
    rows = {
        (row["variant"], row["rate"]): row
        for row in tables.summarize(records + outside)
    }
    assert rows[UNSTRUCTURED, 0.7]["macs_removed"] == 0
    for name in (UNSTRUCTURED, "scratch"):
        assert rows[name, 0.7]["reference"] == "pgmpf"
        assert rows[name, 0.7]["difference"] == pytest.approx(0.04)
    assert rows["pgmpf", 0.7]["reference"] == "sfp"


def test_costs_of_several_machines_are_compared_as_shares():
    def spent(variant, seed, seconds):
        cost = {"macs": 1, "seconds": 1, "processor_seconds": seconds, "load": 1}
        return record(variant, 0.5, seed, 0.9, cost=cost)

    records = [spent(DENSE, 0, 100), spent(DENSE, 1, 300), spent(DENSE, 2, None)]
    records += [spent("pgmpf", 0, 40), spent("pgmpf", 1, 120), spent("pgmpf", 2, 500)]
    records += [spent("sfp", 0, 50), spent("hard", 2, 50), spent("asfp", 3, 50)]
    shares = {row["variant"]: row["cost_of_dense"] for row in tables.summarize(records)}
    assert shares == {DENSE: 1, "pgmpf": 0.4, "sfp": 0.5, "hard": None, "asfp": None}
    (line,) = [
        one for one in tables.markdown("a", records).splitlines() if "pgm" in one
    ]
    assert " 0.40 " in line


def test_tables_come_again_from_the_records_alone(records, tmp_path):
    names = {"one.md", "one_curves.png", "one_macs.png", "one_cost.png"}
    sweep = {"reference": "sfp"}
    text = tables.write("one", tmp_path / "before", sweep, records)
    summary = tables.summarize(records, "sfp")
    sweep_records.save(tmp_path / "one.json", sweep, records, summary)
    found, loaded = sweep_records.load(tmp_path / "one.json")
    assert (found, loaded) == (sweep, records)
    assert tables.write("one", tmp_path / "after", found, loaded) == text
    for name in names:
        before, after = (tmp_path / way / name for way in ("before", "after"))
        assert before.read_bytes() == after.read_bytes()
    assert {path.name for path in (tmp_path / "after").iterdir()} == names
    (tmp_path / "other.json").write_text('{"rungs": []}')
    assert sweep_records.load(tmp_path / "other.json") is None


# What tfmot's row of unstructured.json has beside the other networks'.
TFMOT = {"curve": [0.5, 0.84], "epochs": 2, "prune_learning_rate": 0.02}


@pytest.fixture
def folder(tmp_path):
    """The files of a run, its rival beside it, and of a network from scratch."""
    rows = {
        "dense": {"accuracy": 0.9, "conv_macs": 1000, "params": 100},
        "small": {"accuracy": 0.8, "conv_macs": 250, "params": 40},
        "masked": {"accuracy": 0.81},
    }
    dense = str(tmp_path / "sweep" / "baseline" / "seed1" / "dense.keras")
    settings = {"rate": 0.7, "budget": [], "seed": 1, "model": "net", "baseline": dense}
    spent = {"macs": 9e9, "seconds": 60, "processor_seconds": 90, "load": 2.0}
    # The network shrank under way: the rest of its training is a stage of its own.
    cost = {
        "dense": spent,
        "pruned": spent | {"seconds": 50},
        "compacted": spent | {"seconds": 150, "load": 4.0},
    }
    more = {"settings": settings, "environment": {}}
    run = tmp_path / "sweep" / "pgmpf" / "rate0.7" / "seed1"
    scratch = tmp_path / "sweep" / "scratch" / "rate0.7" / "seed1"
    baseline = tmp_path / "sweep" / "baseline" / "seed1"
    small = {"dense": rows["small"] | {"accuracy": 0.7}}
    for place, result, stages in (
        (run, rows, ("pruned", "compacted")),
        (scratch, small, ("dense",)),
        (baseline, {"dense": rows["dense"]}, ("dense",)),
    ):
        place.mkdir(parents=True)
        spent = {"cost": {stage: cost[stage] for stage in stages}}
        (place / "result.json").write_text(json.dumps(result | more | spent))
    epochs = [("dense", 0.5), ("pruned", 0.6), ("compacted", 0.8)]
    for place in (run, scratch):
        (place / "metrics.jsonl").write_text(
            "".join(
                json.dumps({"stage": stage, "val_accuracy": accuracy}) + "\n"
                for stage, accuracy in epochs
            )
        )
    (run / "unstructured.json").write_text(
        json.dumps(
            {
                name: {
                    "accuracy": 0.85,
                    "parameters": 39,
                    "bytes": size,
                    "gzip_bytes": size // 2,
                    "latency_ms": size / 10,
                }
                | more
                for name, size, more in (
                    ("dense", 90, {}),
                    ("unstructured", 91, TFMOT),
                    ("small", 30, {}),
                )
            }
        )
    )
    (tmp_path / "sweep" / "sweep.json").write_text('{"reference": "pgmpf"}')
    return tmp_path / "sweep"


def test_every_network_of_a_run_is_collected(folder):
    rows = {row["variant"]: row for row in sweep_records.collect(folder)}
    keys = ("rate", "accuracy", "macs", "params", "bytes", "gzip_bytes", "curve")
    assert {name: tuple(row[key] for key in keys) for name, row in rows.items()} == {
        "dense": (0.0, 0.9, 1000, 100, 90, 45, []),
        "pgmpf": (0.7, 0.8, 250, 40, 30, 15, [0.6, 0.8]),
        "tfmot_unstructured": (0.7, 0.85, 1000, 39, 91, 45, [0.5, 0.84]),
        "scratch": (0.7, 0.7, 250, 40, None, None, [0.5]),
    }
    spent = {name: row["cost"]["seconds"] for name, row in rows.items()}
    assert spent == {
        "dense": 60,
        "pgmpf": 200,
        "tfmot_unstructured": None,
        "scratch": 60,
    }
    assert rows["pgmpf"]["cost"]["load"] == 3.5
    accuracies = {"test": 0.8, "masked": 0.81, "tflite": None}
    assert rows["pgmpf"]["accuracies"] == accuracies
    assert [name for name, row in rows.items() if row["pruned"]] == ["pgmpf"]
    settings = rows["tfmot_unstructured"]["settings"]
    assert (settings["epochs"], settings["prune_learning_rate"]) == (2, 0.02)
    assert sweep_records.sweep_of(folder) == {"reference": "pgmpf"}


def test_no_path_of_this_machine_is_recorded(folder, tmp_path):
    for row in sweep_records.collect(folder):
        assert row["settings"]["baseline"] == "baseline/seed1/dense.keras"
        assert str(tmp_path) not in json.dumps(row)
    results = Path(tables.__file__).parent / "results"
    for path in results.rglob("*.json"):
        assert not re.search(r'"/\w', path.read_text("utf-8")), path


def test_known_records_stay_where_no_run_takes_their_place(folder):
    found = sweep_records.collect(folder)
    (small,) = (record for record in found if record["variant"] == "pgmpf")
    others = [
        small | {"accuracy": 0.1},  # of the same run, which has been done again
        small | {"seed": 2},
        small | {"variant": "sfp"},
        small | {"variant": "dense", "rate": 0.0, "seed": 2},
    ]
    merged = sweep_records.merged(found, others)
    assert [record["variant"] for record in merged[:2]] == ["dense", "dense"]
    assert len(merged) == len(found) + 3
    assert all(record in merged for record in [*found, *others[1:]])


def test_known_records_of_another_sweep_stay_out(folder):
    (small,) = (r for r in sweep_records.collect(folder) if r["variant"] == "pgmpf")
    sweep = {"variants": {"pgmpf": {}}, "rates": [small["rate"]], "seeds": [1, 2]}
    kept = [
        small | {"seed": 2},
        small | {"variant": "dense", "rate": 0.0, "seed": 2},
        small | {"variant": sweep_records.UNSTRUCTURED, "seed": 2},
    ]
    others = [
        small | {"seed": 3},
        small | {"variant": "dense", "rate": 0.0, "seed": 3},
        small | {"variant": "sfp", "seed": 2},
        small | {"rate": 0.1, "seed": 2},
    ]
    assert sweep_records.of_sweep([*others, *kept], sweep) == kept
    any_rate = {key: value for key, value in sweep.items() if key != "rates"}
    assert sweep_records.of_sweep([*others, *kept], any_rate) == [others[-1], *kept]
    assert sweep_records.of_sweep(others, {}) == others


def test_known_records_come_from_several_files(records, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, part in zip(paths, (records[:1], records[1:]), strict=True):
        sweep_records.save(path, {}, part, [])
    assert sweep_records.known(map(str, paths)) == records


@pytest.mark.parametrize("content", [None, "[]", '{"rungs": []}', "no JSON"])
def test_what_holds_no_records_is_refused(content, tmp_path):
    path = tmp_path / "known.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"`known` must be JSON files .*known\.json"):
        sweep_records.known([str(path)])


def test_figures_are_drawn(records, tmp_path):
    expected = {figures.colors(["pgmpf"])["pgmpf"], figures.colors(["sfp"])["sfp"]}
    for draw in (figures.draw_curves, figures.draw_macs, figures.draw_cost):
        draw(records, tmp_path / "figure.png")
        pixels = image.imread(tmp_path / "figure.png")[..., :3].reshape(-1, 3)
        found = {
            "#" + "".join(f"{round(255 * value):02x}" for value in pixel)
            for pixel in {tuple(pixel) for pixel in pixels}
        }
        assert expected <= found


def test_a_method_has_one_color_and_no_two_variants_share_one():
    names = ["pgmpf", "sfp", *(f"variant{number}" for number in range(20))]
    chosen = figures.colors(names)
    assert len({tuple(chosen[name]) for name in names}) == len(names)
    assert chosen["pgmpf"] == figures.colors(["a", "pgmpf", "z"])["pgmpf"]
    assert len(figures.colors(map(str, range(50)))) == 50


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No finished run but baselines below"):
        sweep_records.collect(tmp_path)
