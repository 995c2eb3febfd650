import json
import statistics

import pytest
from matplotlib import image

from experiments import tables
from experiments.studies import figures

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
        "macs": 250,
        "params": 40,
        "bytes": None,
        "gzip_bytes": None,
        "latency_ms": None,
        "curve": [0.1, accuracy / 2, accuracy],
        "seconds": 30,
        "settings": {"model": "net", "dataset": "images", "train_examples": 1000},
        "environment": {
            "cores": 2,
            "cpu": "a processor",
            "tensorflow": "2",
            "keras": "3",
        },
    } | changes


@pytest.fixture
def records():
    dense = [
        record(tables.DENSE, 0.0, seed, 0.95, macs=1000, curve=[]) for seed in range(3)
    ]
    return dense + [
        record(variant, rate, seed, accuracy)
        for (variant, rate), accuracies in ACCURACIES.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def test_rows_have_mean_spread_and_the_paired_difference(records):
    rows = {(row["variant"], row["rate"]): row for row in tables.summarise(records)}
    row = rows["pgmpf", 0.7]
    assert row["accuracy"] == pytest.approx(0.90)
    assert row["accuracy_std"] == pytest.approx(0.02)
    assert row["macs_removed"] == 0.75
    differences = (0.05, 0.01, 0.08)
    assert row["best_rival"] == "sfp"
    assert row["difference"] == pytest.approx(statistics.mean(differences))
    assert row["difference_std"] == pytest.approx(statistics.stdev(differences))
    assert rows["sfp", 0.7]["difference"] == pytest.approx(-row["difference"])
    assert rows["hard", 0.7]["best_rival"] == "pgmpf"
    assert rows["pgmpf", 0.4]["best_rival"] == "sfp"
    assert rows["pgmpf", 0.4]["difference"] < 0


def test_variants_with_their_own_rates_are_compared_with_each_other(records):
    chosen = [
        row
        for row in records
        if (row["variant"], row["rate"])
        in {("pgmpf", 0.7), ("sfp", 0.4), (tables.DENSE, 0.0)}
    ]
    rows = {row["variant"]: row for row in tables.summarise(chosen)}
    assert rows["pgmpf"]["best_rival"] == "sfp"
    assert rows["sfp"]["difference"] == pytest.approx(0.11 / 3)


def test_one_run_alone_has_no_spread_and_no_rival(records):
    (row,) = tables.summarise(records[3:4])
    assert row["accuracy_std"] is None
    assert "difference" not in row
    text = tables.markdown("one", records[3:4])
    assert "| variant | rate | seeds | accuracy | MACs | parameters |" in text
    assert "| pgmpf | 0.7 | 1 | 90.00 | 250 | 40 |" in text


def test_the_table_has_a_row_per_variant_and_rate(records):
    text = tables.markdown("main", records)
    row = "| pgmpf | 0.7 | 3 | 90.00 ± 2.00 | +4.67 ± 3.51 (sfp) | 250 | 75.0% | 40 |"
    assert row in text
    assert "| dense | 0.0 | 3 | 95.00 ± 0.00 | - | 1,000 | - | 40 |" in text
    assert text.count("\n| ") == 1 + len(ACCURACIES) + 2
    assert "2 cores (a processor)" in text
    assert "net on images (first 1,000 training images), 3 epochs of pruning" in text


def test_outside_rivals_are_compared_but_are_no_rivals(records):
    outside = [
        record(name, 0.7, seed, 0.94, macs=macs, curve=[])
        for name, macs in ((tables.UNSTRUCTURED, 1000), ("scratch", 250))
        for seed in range(3)
    ]
    rows = {
        (row["variant"], row["rate"]): row
        for row in tables.summarise(records + outside)
    }
    assert rows[tables.UNSTRUCTURED, 0.7]["macs_removed"] == 0
    for name in (tables.UNSTRUCTURED, "scratch"):
        assert rows[name, 0.7]["best_rival"] == "pgmpf"
        assert rows[name, 0.7]["difference"] == pytest.approx(0.04)
    assert rows["pgmpf", 0.7]["best_rival"] == "sfp"


@pytest.fixture
def folder(tmp_path):
    """The files of a run, its rival beside it, and of a network from scratch."""
    rows = {
        "dense": {"accuracy": 0.9, "conv_macs": 1000, "params": 100},
        "small": {"accuracy": 0.8, "conv_macs": 250, "params": 40},
    }
    settings = {"rate": 0.7, "seed": 1, "model": "net"}
    more = {"settings": settings, "environment": {}, "training_seconds": 60}
    run = tmp_path / "sweep" / "pgmpf" / "rate0.7" / "seed1"
    scratch = tmp_path / "sweep" / "scratch" / "rate0.7" / "seed1"
    baseline = tmp_path / "sweep" / "baseline" / "seed1"
    for place, result in (
        (run, rows),
        (scratch, {"dense": rows["small"] | {"accuracy": 0.7}}),
        (baseline, {"dense": rows["dense"]}),
    ):
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(result | more))
    epochs = [("dense", 0.5), ("pruned", 0.6), ("pruned", 0.8)]
    (run / "metrics.jsonl").write_text(
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
                for name, size in (("dense", 90), ("unstructured", 91), ("small", 30))
            }
        )
    )
    return tmp_path / "sweep"


def test_every_network_of_a_run_is_collected(folder):
    rows = {row["variant"]: row for row in tables.collect(folder)}
    keys = ("rate", "accuracy", "macs", "params", "bytes", "gzip_bytes", "curve")
    assert {name: tuple(row[key] for key in keys) for name, row in rows.items()} == {
        "dense": (0.0, 0.9, 1000, 100, 90, 45, []),
        "pgmpf": (0.7, 0.8, 250, 40, 30, 15, [0.6, 0.8]),
        "tfmot_unstructured": (0.7, 0.85, 1000, 39, 91, 45, []),
        "scratch": (0.7, 0.7, 250, 40, None, None, []),
    }
    assert sum(row["seconds"] for row in rows.values()) == 120


def test_figures_are_drawn(records, tmp_path):
    expected = {figures.colours(["pgmpf"])["pgmpf"], figures.colours(["sfp"])["sfp"]}
    for draw in (figures.draw_curves, figures.draw_macs):
        draw(records, tmp_path / "figure.png")
        pixels = image.imread(tmp_path / "figure.png")[..., :3].reshape(-1, 3)
        found = {
            "#" + "".join(f"{round(255 * value):02x}" for value in pixel)
            for pixel in {tuple(pixel) for pixel in pixels}
        }
        assert expected <= found


def test_a_method_has_one_colour_and_no_two_variants_share_one():
    names = ["pgmpf", "sfp", *(f"variant{number}" for number in range(8))]
    chosen = figures.colours(names)
    assert len({tuple(chosen[name]) for name in names}) == len(names)
    assert chosen["pgmpf"] == figures.colours(["a", "pgmpf", "z"])["pgmpf"]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No finished pruning run below"):
        tables.collect(tmp_path)
