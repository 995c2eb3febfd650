import pytest

from experiments.studies import defaults, five_lines


def test_the_program_is_that_of_readme():
    text = five_lines.README.read_text("utf-8")
    assert f"```python\n{five_lines.five_lines()}```" in text


@pytest.mark.slow  # 30 epochs; tests/test_docs.py runs the program on a small network
def test_the_small_network_is_held_against_dense_ones(monkeypatch):
    monkeypatch.setattr(defaults, "DENSE_EPOCHS", 1)
    source = defaults.Source("digits", 96, 50, 50, 8)
    record = five_lines.measure(source, "resnet8", None, seed=0)
    dense, small = record["parameters"]
    assert small < 0.3 * dense
    for name in ("dense", "small", "dense_trained_on"):
        assert 0 <= record[name] <= 1
    assert "| digits | resnet8 | 0 |" in five_lines.markdown([record])
