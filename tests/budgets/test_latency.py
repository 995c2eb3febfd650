"""A table of times: exact where it was measured, stairs kept, and no file trusted."""

import json
import math

import numpy as np
import pytest

from pgmpf_tf.budgets.latency import LatencyTable, Times
from pgmpf_tf.budgets.segments import Segment

OUTS = [16, 17, 32, 33, 48, 49, 64, 96, 97, 128]
INS = [8, 16, 64]


def stairs(step):
    def time(into, out):
        return 0.1 + into * 0.01 * math.ceil(out / step)

    return time


def times(function, outs=OUTS):
    return Times(tuple((i, o, function(i, o)) for i in INS for o in outs))


@pytest.mark.parametrize("step", [1, 8, 16, 32])
def test_exact_where_it_was_measured(step):
    table = times(stairs(step))
    for into, out, time in table.points:
        assert table.at(into, out) == pytest.approx(time, rel=1e-12)


@pytest.mark.parametrize("step", [16, 32])
def test_stairs_between_what_was_measured_are_stairs(step):
    table = times(stairs(step))
    assert table.step == step
    for out in range(1, 129):
        # Linear in the input's channels, so that what is between them is exact, too.
        assert table.at(40, out) == pytest.approx(stairs(step)(40, out), rel=1e-9)


def test_a_slope_is_no_staircase():
    table = times(lambda into, out: 0.1 + 0.02 * into + 0.01 * out)
    assert table.step == 1
    assert table.at(32, 57) == pytest.approx(0.1 + 0.64 + 0.57, rel=1e-9)


def test_noise_makes_no_stairs_and_hides_none():
    noise = np.random.default_rng(0)
    for step in (1, 16, 32):

        def noisy(into, out, step=step):
            return stairs(step)(into, out) * noise.uniform(0.97, 1.03)

        assert times(noisy).step == step


def test_one_width_in_is_enough():
    table = Times(tuple((3, out, stairs(16)(3, out)) for out in OUTS))
    assert table.at(3, 20) == pytest.approx(stairs(16)(3, 20), rel=1e-12)
    assert table.at(2, 20) == table.at(3, 20)


def test_beyond_the_ends_it_goes_on_and_is_never_negative():
    table = times(lambda into, out: 0.001 * out, outs=[16, 32, 64])
    assert table.at(8, 128) == pytest.approx(0.128, rel=1e-9)
    assert times(lambda i, o: o - 15.9, outs=[16, 32]).at(8, 1) == 0.0


def test_the_noise_of_neighbors_does_not_tell_how_it_goes_on():
    # The two ends of a stair, 64 and 65 and 95 and 96: one of each a bit too fast.
    near = {64: 1.0, 65: 0.97, 95: 0.97, 96: 1.0}
    table = Times(tuple((i, 32, 0.01 * i * noise) for i, noise in near.items()))
    for into in (32, 48, 112, 128):
        assert table.at(into, 32) == pytest.approx(0.01 * into, rel=0.1)


def by_fours(into, out):
    """A kernel that is three times as slow where inputs are no multiple of four."""
    return out * into * (0.001 if into % 4 == 0 else 0.003)


def test_multiples_of_inputs_tell_only_of_multiples():
    points = tuple((i, o, by_fours(i, o)) for i in (4, 5, 32, 33) for o in OUTS)
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
        "times": {'{"family": 1}': times(stairs(16))},
        "networks": {"net": ((10.0, 12.0), (20.0, 20.0))},
    }
    return LatencyTable(**values | changes)


def test_a_file_gives_back_the_table(tmp_path):
    for table in (a_table(), a_table(input_step=4)):
        table.save(tmp_path / "table.json")
        assert LatencyTable.load(tmp_path / "table.json") == table


def test_files_of_before_there_were_steps_of_inputs_are_read():
    values = a_table().to_dict()
    del values["input_step"]
    assert LatencyTable.from_dict(values) == a_table()


def test_whole_networks_correct_the_sum():
    table = a_table(times={"a": Times(((1, 1, 5.0),))})
    parts = [Segment("a", 1, 1)] * 3
    assert table.milliseconds(parts) == 15.0
    assert table.milliseconds(parts, "another") == 15.0
    # Halfway between the ratios 1.2 and 1.
    assert table.milliseconds(parts, "net") == pytest.approx(15.0 * 1.1, rel=1e-12)
    assert table.milliseconds(parts[:2], "net") == pytest.approx(12.0, rel=1e-12)


def test_a_part_that_was_not_measured_is_an_error():
    with pytest.raises(ValueError, match=r"`latency_table` must hold all .* b$"):
        a_table().milliseconds([Segment("b", 1, 1)])


def test_what_is_inserted_is_told_by_another_kind_of_it():
    def family(kind, axis=3):
        return f'{{"axis": {axis}, "gather": "{kind}", "shape": [8, 8, 16]}}'

    seen = {family("take"): Times(((8, 4, 1.0),)), family("scatter"): times(stairs(1))}
    table = a_table(times=seen)
    found = table.milliseconds([Segment(family("pad"), 16, 32)])
    assert found == pytest.approx(stairs(1)(16, 32), rel=1e-12)
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
        broken(version=2),
        broken(threads="many"),
        broken(input_step=0),
        broken(times=[{"family": 1}]),
        broken(times=[{"family": 1, "points": [[1, 2]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, 0.0]]}]),
        broken(times=[{"family": 1, "points": [[1, 2, math.nan]]}]),
        broken(times=[{"family": 1, "points": [[1, -2, 1.0]]}]),
        broken(networks=[1]),
    ],
)
def test_what_is_no_table_is_refused(values, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="`path` must be a table that"):
        LatencyTable.load(path)


def test_what_is_no_file_of_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`path` must be a JSON file"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"version": 1, "times": [')
    with pytest.raises(ValueError, match="`path` must be a JSON file"):
        LatencyTable.load(tmp_path / "torn.json")
