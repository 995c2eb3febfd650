"""Networks at toy size: built, pruned, deployed, and shown in a table."""

import keras
import numpy as np
import pytest

from experiments.networks import hub, hub_tasks, written_sequences
from experiments.studies import toys
from experiments.studies.elsewhere import Elsewhere

HUB, WRITTEN = toys.SETS["keras_hub"], toys.SETS["written"]
SLOW = pytest.mark.slow


# Convolutions and gates; windows, shifts and stochastic depth; a decoder of text.
@pytest.mark.parametrize("name", ["EfficientNet", "SwinTransformer", "Llama"])
def test_half_of_a_backbone_goes(name):
    row = toys.measure(HUB.networks[name], name)
    dense, small = row["macs"]
    assert small < 0.35 * dense
    assert row["deviation"] < toys.BOUND
    assert set(row["stays"]) == {"output"}
    table = toys.table(HUB, [row])
    assert table.splitlines()[-1].startswith(f"| {name} | {dense:,} |")


# What no backbone has: two towers; layers made in a call, queries and keys normalized.
@pytest.mark.parametrize(
    "name",
    [
        "CLIP",
        pytest.param("Flux", marks=SLOW),
        *(
            pytest.param(name, marks=SLOW)
            for name in hub_tasks.TASKS
            if name not in ("CLIP", "Flux")
        ),
    ],
)
def test_tasks_stay_the_same(name):
    row = toys.measure(HUB.networks[name], name)
    assert row["macs"][1] < row["macs"][0]
    assert row["deviation"] < max(toys.BOUND, 5 * row["conditioning"])


LEFT = {
    "ViT": 0.31,
    "Swin": 0.35,
    # A channel that tokens are mixed for has a bias of its own at every token.
    "MLP-Mixer": 0.65,
    "ConvMixer": 0.45,
    "Conformer": 0.28,
    "DDPM U-Net": 0.30,
    "text transformer": 0.30,
    "Siamese": 0.32,
    "graph attention": 0.40,
    "keypoint": 0.40,
    "OCR with CTC": 0.32,
}
"""Of the multiply-accumulates, at most."""


@pytest.mark.parametrize("name", written_sequences.NETWORKS)
def test_written_networks_lose_half_of_all(name):
    row = toys.measure(WRITTEN.networks[name], name)
    dense, small = row["macs"]
    assert small < LEFT[name] * dense
    assert row["deviation"] < toys.BOUND
    assert row["own_layers"] == (["CTCLoss"] if name == "OCR with CTC" else [])


def test_a_killed_study_goes_on_and_deploys_what_it_has_not(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("it was measured already")

    one = toys.Set("one", "One", {"keypoint": WRITTEN.networks["keypoint"]})
    assert "| keypoint |" in toys.run(one, tmp_path, [], deployed=False)
    with monkeypatch.context() as patch:
        patch.setattr(toys, "_measure", refuse)
        toys.run(one, tmp_path, [], deployed=False)
    text = toys.run(one, tmp_path, [], deployed=True)
    (line,) = (line for line in text.splitlines() if line.startswith("| keypoint"))
    *_, elsewhere, saved_model, tflite, trains, _ = line.strip("| ").split(" | ")
    for figure in (elsewhere, saved_model, tflite):
        assert float(figure) < toys.BOUND
    assert trains == "yes"


def test_what_cannot_be_measured_is_named_and_tried_again(tmp_path):
    def good():
        x = keras.Input((3,))
        hidden = keras.layers.Dense(4, activation="relu")(x)
        return keras.Model(x, keras.layers.Dense(2)(hidden))

    def bad():
        raise ValueError("cannot be built")

    sets = [
        toys.Set("two", "Two", {"first": first, "second": good}, "A note.")
        for first in (bad, good)
    ]
    text = toys.run(sets[0], tmp_path, [], deployed=False)
    assert "- first: ValueError: cannot be built." in text
    assert "| second | 20 | 10 |" in text
    assert " A note.\n" in text
    text = toys.run(sets[1], tmp_path, [], deployed=False)
    assert "| first | 20 | 10 |" in text
    assert "What fails" not in text


def test_what_does_not_load_elsewhere_is_told():
    @keras.saving.register_keras_serializable("tests")
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    x = keras.Input((3,))
    with Elsewhere() as elsewhere, pytest.raises(RuntimeError, match="Mine"):
        elsewhere.deviation(keras.Model(x, Mine()(x)))


def test_masks_say_where_padding_is():
    model = hub.build("Bert")
    mask = hub.samples(model, 2, seed=0)["padding_mask"]
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 1, 1, 0, 0]] * 2)
