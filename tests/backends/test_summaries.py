"""Event files, read back by TensorBoard itself."""

import sys

import numpy as np
import pytest

from pgmpf_tf.backends.summaries import SummaryLog


def test_tensorboard_reads_what_was_written(tmp_path):
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    util = pytest.importorskip("tensorboard.util.tensor_util")
    log = SummaryLog(str(tmp_path))
    for step in (0, 7):
        log.write(step, {"rate": 0.25 + step}, {"norms": np.array([0.0, 0.0, step])})
    log.close()
    found = reading.EventAccumulator(str(tmp_path)).Reload()
    assert found.Tags()["tensors"] == ["rate", "norms"]
    rates = found.Tensors("rate")
    assert [event.step for event in rates] == [0, 7]
    assert util.make_ndarray(rates[1].tensor_proto) == 7.25
    bins = util.make_ndarray(found.Tensors("norms")[1].tensor_proto)
    assert bins[0, 0] == 0
    assert bins[-1, 1] == 7
    assert bins[:, 2].tolist() == [2, *[0] * (len(bins) - 2), 1]


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.scalar.summary_v2", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        SummaryLog(str(tmp_path))
