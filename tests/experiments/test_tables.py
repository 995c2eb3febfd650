import statistics

import pytest
from matplotlib import image

from experiments import tables

ACCURACIES = {
    ("pgmpf", 0.7): (0.90, 0.92, 0.88),
    ("sfp", 0.7): (0.85, 0.91, 0.80),
    ("hard", 0.7): (0.60, 0.70, 0.65),
    ("pgmpf", 0.4): (0.93, 0.94, 0.92),
    ("sfp", 0.4): (0.94, 0.94, 0.93),
}


@pytest.fixture
def records():
    return [
        {
            "variant": variant,
            "rate": rate,
            "seed": seed,
            "dense_accuracy": 0.95,
            "accuracy": accuracy,
            "dense_macs": 1000,
            "macs": 250,
            "latency_ms": 0.5,
            "curve": [0.1, accuracy / 2, accuracy],
            "seconds": 30,
            "environment": {
                "cores": 2,
                "cpu": "a processor",
                "tensorflow": "2",
                "keras": "3",
            },
        }
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
        record
        for record in records
        if (record["variant"], record["rate"]) in {("pgmpf", 0.7), ("sfp", 0.4)}
    ]
    rows = {row["variant"]: row for row in tables.summarise(chosen)}
    assert rows["pgmpf"]["best_rival"] == "sfp"
    assert rows["sfp"]["difference"] == pytest.approx(0.11 / 3)


def test_one_run_alone_has_no_spread_and_no_rival(records):
    (row,) = tables.summarise(records[:1])
    assert row["accuracy_std"] is None
    assert "difference" not in row
    assert "| 90.00 | - | 95.00% |" in tables.markdown("one", records[:1])


def test_a_network_from_scratch_is_compared_without_a_dense_one(records):
    scratch = [
        record | {"variant": "scratch", "dense_accuracy": None, "dense_macs": None}
        for record in records[:3]
    ]
    everything = records + scratch
    rows = {(row["variant"], row["rate"]): row for row in tables.summarise(everything)}
    assert rows["scratch", 0.7]["macs_removed"] == 0.75
    text = tables.markdown("main", everything)
    assert "| scratch | 0.7 | 3 | 90.00 ± 2.00 | +0.00 ± 0.00 (pgmpf) | - |" in text


def test_the_table_has_a_row_per_variant_and_rate(records):
    text = tables.markdown("main", records)
    row = "| pgmpf | 0.7 | 3 | 90.00 ± 2.00 | +4.67 ± 3.51 (sfp) | 95.00% | 75.0% |"
    assert row in text
    assert text.count("\n| ") == len(ACCURACIES) + 2
    assert "2 cores (a processor)" in text


def test_figures_are_drawn(records, tmp_path):
    for draw in (tables.draw_curves, tables.draw_macs):
        draw(records, tmp_path / "figure.png")
        pixels = image.imread(tmp_path / "figure.png")
        assert len({tuple(pixel) for pixel in pixels.reshape(-1, 4)[::7]}) > 10


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No finished pruning run below"):
        tables.collect(tmp_path)
