"""What groups take back of what they have lost."""

from pgmpf_tf.budgets.candidates import Candidates
from pgmpf_tf.budgets.removals import Removal


def filled(fits):
    """Two groups of 64 that have 20 left; the second has lost its own last."""
    queue = [Removal(group, kept) for group in (0, 1) for kept in range(63, 19, -1)]
    return Candidates(None, (64, 64), queue).filled(len(queue), fits)


def test_what_one_group_gains_another_may_need():
    """Parts of a tile are slow: nothing fits the second before the first has 32."""

    def fits(kept):
        first, second = kept
        times = 1 if first == 32 else 3, {20: 1, 32: 2}.get(second, 9)
        return max(kept) <= 32 and sum(times) <= 4

    assert filled(fits) == [32, 32]


def test_single_filters_go_first_to_the_group_that_lost_its_own_last():
    assert filled(lambda kept: sum(kept) <= 43) == [20, 23]
