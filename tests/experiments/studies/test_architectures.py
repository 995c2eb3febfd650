"""The table of architectures: a row is measured, kept, found again, and shown."""

from pathlib import Path

import pytest

from experiments.networks import applications
from experiments.studies import architectures
from experiments.studies.architectures import Case, Results
from pgmpf_tf.channels.units import Analysis, Pin


@pytest.fixture(scope="module")
def row():
    model = applications.build("MobileNet", size=32, classes=5)
    applications.randomize(model, seed=0, batch=4)
    return architectures.measure(Case("MobileNet", "grouped"), model)


def test_a_row_says_what_was_lost_and_that_nothing_changed(row):
    dense, small = row["macs"]
    assert 0.6 < 1 - small / dense < 0.8
    assert row["pinned"] == {"output": 5}
    assert row["deviation"] < 1e-4
    assert row["size"] == 32


def test_a_killed_run_goes_on_after_its_last_whole_line(row, tmp_path):
    results = Results(tmp_path)
    results.add(row)
    with results.path.open("a") as file:
        file.write('{"name": "VGG16", "coup')
    again = Results(tmp_path)
    assert again.rows == {Case("MobileNet", "grouped"): row | {"exclude": []}}
    again.add(row | {"name": "VGG16"})
    assert set(Results(tmp_path).rows) == {
        Case("MobileNet", "grouped"),
        Case("VGG16", "grouped"),
    }


def test_the_table_has_a_line_per_row_and_a_verdict_per_demand(row):
    case, missed = Case("MobileNet", "grouped"), Case("VGG16", "grouped")
    rows = {case: row, missed: row | {"name": "VGG16", "macs": [10**9, 9 * 10**8]}}
    lines = architectures.table(rows, {"cpu": "abacus"}).splitlines()
    assert sum(line.startswith("| MobileNet | 32 | grouped |") for line in lines) == 1
    assert any("MobileNet grouped" in line and "met" in line for line in lines)
    assert "| VGG16 grouped | 10.0% | 60% | missed: output |" in lines
    assert any("abacus" in line for line in lines)


def test_the_results_have_every_architecture_small_equal_to_masked():
    text = Path(architectures.__file__).parents[1] / "results" / "architectures.md"
    rows = [line.split("|") for line in text.read_text("utf-8").splitlines()]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) == 15]
    found = {(row[0], row[2]): float(row[10]) for row in cells if row[1].isdigit()}
    for name in applications.NAMES:
        for coupling in architectures.COUPLINGS:
            assert found[name, coupling] < 1e-4


def test_the_published_case_comes_after_its_architecture():
    found = list(architectures.cases(["VGG16", "ResNet50"], ("independent",)))
    assert found == [
        Case("VGG16", "independent"),
        Case("ResNet50", "independent"),
        Case("ResNet50", "independent", 0.4, ("conv?_block1_0_conv",)),
    ]


def test_reasons_are_counted_in_a_word():
    pins = (
        Pin("a", 3, "read by LayerNormalization 'norm', which needs all channels"),
        Pin("b", 5, "an output of the model"),
        Pin("c", 4, "read by LayerNormalization 'other', which needs all channels"),
    )
    found = architectures.pinned(Analysis(0, (), (), pins))
    assert list(found.items()) == [("LayerNormalization", 7), ("output", 5)]
