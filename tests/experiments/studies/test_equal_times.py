import pytest

from experiments.studies.equal_times import FASTER, SLOWER, TRIES, Candidate, as_fast


def tried(time):
    """A way to prune whose network takes `time(fraction)`, and what was asked of it."""
    asked = []

    def pruned(fraction):
        asked.append(fraction)
        return Candidate(None, (), fraction)

    return asked, pruned, lambda candidate: time(candidate.asked)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_time_is_met(power):
    asked, pruned, ratio = tried(lambda fraction: ((1 - fraction) / 0.3) ** power)
    found = as_fast(pruned, ratio, 0.5)
    assert FASTER <= found.ratio <= SLOWER
    assert found.ratio == ratio(found)
    assert len(asked) <= TRIES


def test_on_a_cliff_it_stays_on_the_fast_side():
    asked, pruned, ratio = tried(lambda fraction: 0.8 if fraction > 0.6 else 1.5)
    found = as_fast(pruned, ratio, 0.5)
    assert found.ratio == 0.8
    assert len(asked) == TRIES


def test_what_is_never_fast_enough_is_an_error():
    _, pruned, ratio = tried(lambda fraction: 2.0)
    with pytest.raises(
        ValueError, match=r"fraction=0\.5; tried were 0\.500 \(2\.00 of"
    ):
        as_fast(pruned, ratio, 0.5)
