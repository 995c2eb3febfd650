"""Backbones of KerasHub: built at toy size, pruned, and shown in a table."""

import pytest

from experiments.studies import hub


# Convolutions and gates; windows, shifts and stochastic depth; a decoder of text.
@pytest.mark.parametrize("name", ["EfficientNet", "SwinTransformer", "Llama"])
def test_half_of_a_backbone_goes(name):
    row = hub.measure(name)
    dense, small = row["macs"]
    assert small < 0.35 * dense
    assert row["deviation"] < 1e-5
    assert set(row["stays"]) == {"output"}
    assert hub.table([row]).splitlines()[-1].startswith(f"| {name} | {dense:,} |")
