"""A table of times: exact where it was measured, stairs kept, and no file trusted."""

import json
import math

import pytest

from pgmpf_tf.budgets.latency import LatencyTable
from pgmpf_tf.budgets.segments import Segment
from pgmpf_tf.budgets.times import Point, Times
from pgmpf_tf.budgets.whole import Whole

OUTS = [16, 32, 64, 128]


def slope(into, out):
    return 0.1 + into * 0.01 * out


def times(function):
    return Times(tuple(Point(i, o, function(i, o)) for i in (8, 64) for o in OUTS))


def by_fours(into, out):
    """A kernel that is three times as slow where inputs are no multiple of four."""
    return out * into * (0.001 if into % 4 == 0 else 0.003)


def test_multiples_of_inputs_tell_only_of_multiples():
    points = tuple(Point(i, o, by_fours(i, o)) for i in (4, 5, 32, 33) for o in OUTS)
    table = a_table(times={"a": Times(points)}, networks={}, input_step=4)
    for into in (4, 8, 9, 16, 17, 30, 32, 40):
        found = table.milliseconds([Segment("a", into, 64)])
        assert found == pytest.approx(by_fours(into, 64), rel=1e-9)
    # Where one of a kind was measured, or none, the others are better than nothing.
    few = a_table(times={"a": Times(points[-2:])}, networks={}, input_step=4)
    assert few.milliseconds([Segment("a", 8, 128)]) == by_fours(33, 128)


def a_table(**changes):
    values = {
        "runtime": "tflite",
        "precision": "int8",
        "threads": 2,
        "machine": "x86_64, none",
        "times": {'{"family": 1}': times(slope)},
        "networks": {"net": (Whole(10, 13, 100), Whole(20, 26, 200), Whole(5, 5.5))},
    }
    return LatencyTable(**values | changes)


def test_a_file_gives_back_the_table(tmp_path):
    for table in (a_table(), a_table(input_step=4)):
        table.save(tmp_path / "table.json")
        assert LatencyTable.load(tmp_path / "table.json") == table


def test_files_of_before_there_was_more_to_tell_are_read():
    values = a_table().to_dict()
    del values["input_step"]
    for entry in values["times"]:
        entry["points"] = [point[:3] for point in entry["points"]]
    values["networks"] = {"net": [[10.0, 12.0], [20.0, 24.0]]}
    known = {"net": (Whole(10.0, 12.0), Whole(20.0, 24.0))}
    assert LatencyTable.from_dict(values) == a_table(networks=known)


def test_what_a_part_has_inside_tells_its_time():
    points = [Point(8, 16, 1.0 * heads, heads) for heads in (1, 2, 4)]
    table = a_table(times={"a": Times(tuple(points))})
    for heads in (1, 2, 3, 4):
        assert table.milliseconds([Segment("a", 8, 16, heads)]) == heads


def test_whole_networks_correct_the_sum():
    table = a_table(times={"a": Times((Point(1, 1, 5.0),))})
    parts = [Segment("a", 1, 1, steps=("a call",), entries=50)] * 3
    assert table.milliseconds(parts) == 15.0
    assert table.milliseconds(parts, "another") == 15.0
    # A tenth more, and a fiftieth for each weight.
    assert table.milliseconds(parts, "net") == pytest.approx(16.5 + 3.0, rel=5e-3)


def test_a_part_that_was_not_measured_is_an_error():
    with pytest.raises(ValueError, match=r"`latency_table` must hold all .* b$"):
        a_table().milliseconds([Segment("b", 1, 1)])


def test_what_is_inserted_is_told_by_another_kind_of_it():
    def family(kind, axis=3):
        return f'{{"axis": {axis}, "gather": "{kind}", "shape": [8, 8, 16]}}'

    seen = {family("take"): Times((Point(8, 4, 1.0),)), family("scatter"): times(slope)}
    table = a_table(times=seen)
    found = table.milliseconds([Segment(family("pad"), 16, 32)])
    assert found == pytest.approx(slope(16, 32), rel=1e-12)
    assert table.milliseconds([Segment(family("take"), 8, 4)]) == 1.0
    with pytest.raises(ValueError, match="a table without"):
        table.milliseconds([Segment(family("pad", axis=2), 16, 32)])


def broken(**changes):
    return a_table().to_dict() | changes


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        "text",
        broken(version=1),
        broken(threads="many"),
        broken(input_step=0),
        broken(times=[{"family": 1}]),
        broken(times=[{"family": 1, "points": [[1, 2]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, 0.0]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, math.nan]]}]),
        broken(times=[{"family": 1, "points": [[1, -2, 1.0]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, 1.0, -1]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, 1.0, 0, 0]]}]),
        broken(networks=[1]),
        broken(networks={"net": [[1.0]]}),
        broken(networks={"net": [[1.0, 0.0]]}),
        broken(networks={"net": [[1.0, 2.0, -1.0]]}),
    ],
)
def test_what_is_no_table_is_refused(values, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="`path` must be a table that"):
        LatencyTable.load(path)


def test_of_a_table_of_another_version_it_is_said_what_to_do():
    with pytest.raises(ValueError, match=r"version is 1 .* measure a new one"):
        LatencyTable.from_dict(broken(version=1))


def test_what_is_no_file_of_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`path` must be a JSON file"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"version": 1, "times": [')
    with pytest.raises(ValueError, match="`path` must be a JSON file"):
        LatencyTable.load(tmp_path / "torn.json")
