import pytest

from experiments.studies import flops_table


@pytest.mark.parametrize("network", ["resnet20", "resnet32", "resnet56", "resnet110"])
def test_where_half_is_a_whole_number_the_published_figure_comes_out(network):
    published = flops_table.PUBLISHED[network][flops_table.RATES.index(0.5)]
    found = flops_table.whole_filters(network, 0.5)
    assert found == pytest.approx(published, abs=0.1)


@pytest.mark.parametrize("network", ["resnet20", "resnet110"])
@pytest.mark.parametrize("rate", flops_table.RATES)
def test_whole_filters_are_never_more_than_published(network, rate):
    published = flops_table.PUBLISHED[network][flops_table.RATES.index(rate)]
    assert published - 5 < flops_table.whole_filters(network, rate) < published + 0.1


@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_the_real_network_loses_at_least_what_theory_says(rate):
    counts = flops_table.count("resnet20", "independent", rate)
    assert counts["dense"] == 40_550_400
    removed = 100 * (1 - counts["small"] / counts["dense"])
    assert removed >= flops_table.whole_filters("resnet20", rate) - 1e-9


def test_the_table_shows_measured_beside_published():
    record = {"network": "resnet20", "coupling": "grouped", "rate": 0.5}
    text = flops_table.markdown([record | {"published": 64.6, "dense": 8, "small": 3}])
    assert "| resnet20 | grouped |  |  |  |  | 62.5 (64.6; 64.5) |  |" in text
