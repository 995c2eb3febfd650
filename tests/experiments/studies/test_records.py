import json

import pytest

from experiments.studies.records import known, spread


def test_a_record_is_known_by_its_settings(tmp_path):
    path = tmp_path / "run.json"
    assert known(path, epochs=3) is None
    record = {"epochs": 3, "test": 0.5}
    path.write_text(json.dumps(record), "utf-8")
    assert known(path, epochs=3) == record
    with pytest.raises(ValueError, match=r"other settings: .*3.* Received: .*4"):
        known(path, epochs=4)


def test_a_spread_is_in_percent():
    assert spread([0.4, 0.6]) == "50.00 ± 14.14"
    assert (spread([0.123]), spread([])) == ("12.30", "-")
