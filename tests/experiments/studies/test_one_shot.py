import json

import pytest

from experiments.studies import one_shot
from experiments.studies.one_shot import Point

WANTED = (
    Point("l2", "uniform", 0.3, 0),
    Point("taylor", "sensitivity", 0.5, 0),
    Point("random", "global", 0.5, 0),
    Point("random", "global", 0.5, 1),
)


def test_every_budget_is_met_from_the_same_dense_network(run):
    done = one_shot.measure(run, WANTED)
    assert set(done["points"]) == {point.key for point in WANTED}
    for point in WANTED:
        left = done["points"][point.key]["macs_left"]
        # One filter of 16 in all layers of a stage is about 3 % of this network.
        assert 1 - point.fraction - 0.03 < left <= 1 - point.fraction
    # The networks that are pruned later start from the weights of the first.
    again = one_shot.Experiment(run)
    again.prune(WANTED[2])
    assert again.prune(WANTED[0]) == done["points"][WANTED[0].key]


def test_what_is_known_is_not_measured_again(run):
    one_shot.measure(run, WANTED)
    path = run / "one_shot.json"
    done = json.loads(path.read_text("utf-8"))
    done["points"][WANTED[0].key]["accuracy"] = 0.123
    path.write_text(json.dumps(done), "utf-8")
    more = (*WANTED, Point("l1", "uniform", 0.3, 0))
    found = one_shot.measure(run, more)
    assert found["points"][WANTED[0].key]["accuracy"] == 0.123
    assert more[-1].key in found["points"]


def test_table_and_figure_show_the_means(run, tmp_path):
    done = one_shot.measure(run, WANTED)
    mean = sum(done["points"][point.key]["accuracy"] for point in WANTED[2:]) / 2
    text = one_shot.markdown(done, run)
    assert f"| random | global | - | {100 * mean:.2f} (" in text
    one_shot.draw(done, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="finished run"):
        one_shot.measure(tmp_path, WANTED)
