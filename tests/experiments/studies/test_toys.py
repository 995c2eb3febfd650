"""Backbones of KerasHub: built at toy size, pruned, and shown in a table."""

import pytest

from experiments.studies import toys


# Convolutions and gates; windows, shifts and stochastic depth; a decoder of text.
@pytest.mark.parametrize("name", ["EfficientNet", "SwinTransformer", "Llama"])
def test_half_of_a_backbone_goes(name):
    row = toys.measure(toys.SETS["keras_hub"].networks[name], name)
    dense, small = row["macs"]
    assert small < 0.35 * dense
    assert row["deviation"] < 1e-5
    assert set(row["stays"]) == {"output"}
    table = toys.table(toys.SETS["keras_hub"], [row])
    assert table.splitlines()[-1].startswith(f"| {name} | {dense:,} |")
