import numpy as np
import pytest

from experiments.studies import defaults, epoch_ends


@pytest.fixture
def tiny(monkeypatch):
    source = defaults.Source("digits", 96, 50, 50, 8)
    monkeypatch.setitem(defaults.SOURCES, "digits", source)
    monkeypatch.setattr(defaults, "DENSE_EPOCHS", 1)
    monkeypatch.setattr(epoch_ends, "EPOCHS", 2)


def test_the_network_goes_on_with_the_statistics_that_it_had(tiny, monkeypatch):
    seen = []
    measured = epoch_ends.Recalibrated.on_epoch_end

    def watched(self, epoch, logs=None):
        before = self.model.get_weights()
        measured(self, epoch, logs)
        for value, old in zip(self.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, old)
        seen.append(epoch)
        # 50 held-out images, and as many to test on.
        assert len(self.unseen[0]) == len(self.unseen[1]) == 100

    monkeypatch.setattr(epoch_ends.Recalibrated, "on_epoch_end", watched)
    record = epoch_ends.measure("digits", "adamw", 0.01, 32, 0.5, 0, "unseen")
    assert seen == [0, 1, 0, 1]
    for run in (record["pruned"], record["plain"]):
        pairs = list(zip(run["as_it_is"], run["recalibrated"], strict=True))
        assert run["largest"] == pytest.approx(max(abs(a - b) for a, b in pairs))
    text = epoch_ends.markdown([record])
    first = record["pruned"]["as_it_is"][0]
    assert (
        f"| unseen | digits | adamw | 0.01 | 32 | 0.5 | 0 | {100 * first:.1f} |" in text
    )
