"""The demo's run, shorter, and the ways in which a run can be refused."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import pgmpf_tf
from experiments import demo
from experiments.data import datasets
from experiments.networks import models
from experiments.run import evaluation, presentation
from experiments.run import runner as runs
from experiments.run.directory import RunDirectory
from experiments.run.settings import RunSettings
from pgmpf_tf._files import FolderInUse

TINY = RunSettings(
    train_examples=64, batch_size=32, dense_epochs=1, epochs=1, formats=()
)


DEMO = dataclasses.replace(demo.SETTINGS, dense_epochs=10, epochs=10)
SHRUNK_AFTER = 3
"""Of the 10 epochs: the default has pruned all after 0.3 of a run."""


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return folder, runs.run(DEMO, folder)


@pytest.fixture(scope="module")
def test_images():
    return evaluation.test_set(datasets.load("digits"), 50)


def test_the_demo_keeps_its_promises(demo_run):
    _, result = demo_run
    dense, small = result["dense"], result["small"]
    assert dense["accuracy"] >= 0.97
    assert small["accuracy"] >= dense["accuracy"] - 0.015
    assert small["tflite_accuracy"] == small["accuracy"]
    assert small["macs"] < 0.3 * dense["macs"]
    assert small["params"] < 0.3 * dense["params"]
    for kind in ("saved_model", "tflite"):
        assert small["exports"][kind]["bytes"] < 0.7 * dense["exports"][kind]["bytes"]
    agreement = result["agreement"]
    assert agreement["masked_compacted_deviation"] <= 1e-5
    assert agreement["compacted_tflite_deviation"] <= 1e-4
    assert agreement["masked_compacted_same_classes"] == 1
    assert agreement["compacted_tflite_same_classes"] == 1


def test_a_finished_run_holds_whole_files_only(demo_run):
    folder, result = demo_run
    assert {path.name for path in folder.iterdir()} == {
        "settings.json",
        "metrics.jsonl",
        "masks.jsonl",
        "report.html",
        "dense.keras",
        "pruned.keras",
        "compacted.keras",
        "exports",
        "result.json",
    }
    assert json.loads((folder / "result.json").read_text()) == result
    settings = json.loads((folder / "settings.json").read_text())
    assert RunSettings.from_json(settings) == DEMO


def test_the_metrics_have_a_line_per_epoch(demo_run):
    folder, _ = demo_run
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = [(record["stage"], record["epoch"]) for record in records]
    dense = [("dense", epoch) for epoch in range(DEMO.dense_epochs)]
    pruned = [("pruned", epoch) for epoch in range(SHRUNK_AFTER)]
    small = [("compacted", e) for e in range(SHRUNK_AFTER, DEMO.epochs)]
    assert found == dense + pruned + small
    cut = records[len(dense + pruned) - 1]
    assert cut["pruning_rate"] == 0.5
    assert cut["suppression"] == 1
    assert cut["weight_mask"] == 0
    # What validation saw last is the network of the file, on images held out.
    data = evaluation.load_data(DEMO)
    for record, stage in ((cut, "pruned"), (records[-1], "compacted")):
        model = keras.saving.load_model(folder / f"{stage}.keras", compile=False)
        outputs, labels = zip(
            *((model(x), y) for x, y in data.validation_batches(64)), strict=True
        )
        found = evaluation.accuracy(np.concatenate(outputs), np.concatenate(labels))
        assert record["val_accuracy"] == pytest.approx(found)


def test_the_cost_is_that_of_the_steps(demo_run):
    _, result = demo_run
    settings, cost = DEMO, result["cost"]
    images = evaluation.load_data(settings).train_size
    wide, small = result["dense"]["macs"], result["small"]["macs"]
    expected = {
        "dense": (settings.dense_epochs, wide),
        # The masked network is as wide as the dense one.
        "pruned": (SHRUNK_AFTER, wide),
        "compacted": (settings.epochs - SHRUNK_AFTER, small),
    }
    assert set(cost) == set(expected)
    for stage, (epochs, macs) in expected.items():
        assert cost[stage]["epochs"] == epochs
        assert cost[stage]["images"] == epochs * images
        assert cost[stage]["macs"] == 3 * epochs * images * macs
        assert cost[stage]["processor_seconds"] > 0
        assert cost[stage]["seconds"] > 0


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = RunDirectory(tmp_path / "run", TINY)
    with first.opened():
        message = "Another process is at work in .*run"
        with pytest.raises(FolderInUse, match=message):
            runs.run(TINY, tmp_path / "run")
        assert {path.name for path in first.path.iterdir()} == {
            ".lock",
            "settings.json",
        }
    with RunDirectory(tmp_path / "run", TINY).opened():
        pass
    assert [path.name for path in first.path.iterdir()] == ["settings.json"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    for folder in (tmp_path / "run", tmp_path / "run" / "exports" / "dense"):
        left = folder / ".export-abc.partial" / "new"
        left.mkdir(parents=True)
        (left / "dense.keras").write_text("half")
    (tmp_path / "run" / ".lock").write_text("")  # of the killed one
    directory = RunDirectory(tmp_path / "run", TINY)
    with directory.opened():
        assert not list(directory.path.rglob("*.partial"))
    assert not list(directory.path.rglob(".lock"))


def test_the_masks_of_all_epochs_end_with_those_of_the_file(demo_run):
    folder, _ = demo_run
    directory = RunDirectory(folder, DEMO)
    assert len(directory.masks) == SHRUNK_AFTER + 1
    pruned = [sum(m.count("0") for m in masks.values()) for masks in directory.masks]
    # A little goes before the first step, and nothing comes back.
    assert pruned[0] < pruned[1] < pruned[-1]
    assert pruned == sorted(pruned)
    pruned = keras.saving.load_model(folder / "pruned.keras", compile=False)
    last = {
        group: "".join(str(int(kept)) for kept in mask)
        for group, mask in pruned.masks().items()
    }
    assert directory.masks[-1] == last


def test_the_page_shows_the_run(demo_run):
    folder, result = demo_run
    page = (folder / "report.html").read_text("utf-8")
    last = RunDirectory(folder, DEMO).metrics[-1]
    for expected in (
        f"{result['dense']['macs']:,}",
        f"{result['small']['macs']:,}",
        '<section id="masks">',
        f"{DEMO.dense_epochs + DEMO.epochs} epochs.",
        f"<b>{last['val_accuracy']:.4g}</b>",
        "compacted",
        "rate=0.5",
    ):
        assert expected in page


def test_the_result_is_that_of_the_files(demo_run, test_images):
    folder, result = demo_run
    images, labels = test_images
    small = keras.saving.load_model(folder / "compacted.keras")
    outputs = small.predict(images, verbose=0)
    assert evaluation.accuracy(outputs, labels) == result["small"]["accuracy"]
    assert pgmpf_tf.profile(small).macs == result["small"]["macs"]
    path = folder / "exports" / "compacted" / "model.tflite"
    assert path.stat().st_size == result["small"]["exports"]["tflite"]["bytes"]
    tflite = evaluation.tflite_outputs(path, images, 64)
    assert evaluation.deviation(tflite, outputs) <= 1e-4


def test_a_finished_run_is_not_done_again(demo_run):
    folder, result = demo_run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert runs.run(DEMO, folder) == result
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_run_in_the_same_folder_is_refused(demo_run):
    folder, _ = demo_run
    other = dataclasses.replace(DEMO, rate=0.25, seed=1)
    message = r"rate \(0\.5 before, now 0\.25\), seed \(0 before, now 1\)"
    with pytest.raises(ValueError, match=message):
        runs.run(other, folder)
    moved = dataclasses.replace(DEMO, tfds_dir="elsewhere")
    assert RunDirectory(folder, moved).result is not None


def test_the_table_says_what_the_result_says(demo_run):
    _, result = demo_run
    console = Console(width=100)
    with console.capture() as capture:
        console.print(presentation.table(result))
    text = capture.get()
    small = result["small"]
    for expected in (
        f"{small['accuracy']:.2%}",
        f"{100 * (small['accuracy'] - result['dense']['accuracy']):+.2f} points",
        f"{small['params']:,}",
        f"{small['macs']:,}",
        f"{small['macs'] / result['dense']['macs'] - 1:+.1%}",
        f"{small['exports']['tflite']['latency_ms']:.3f} ms",
        "same class 100%",
    ):
        assert expected in text


def test_the_baseline_method_trains_the_dense_network_only(tmp_path):
    settings = dataclasses.replace(TINY, method="baseline")
    result = runs.run(settings, tmp_path / "run")
    assert set(result) >= {"dense", "cost", "environment"}
    assert "small" not in result
    assert not (tmp_path / "run" / "pruned.keras").exists()


def test_a_run_with_a_teacher_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    settings = dataclasses.replace(TINY, distillation=0.5, epochs=2)
    save = RunDirectory.save_model

    def stop(self, model, path):
        save(self, model, path)
        if "pruned" in path.name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save_model", stop)
        with pytest.raises(KeyboardInterrupt):
            runs.run(settings, tmp_path)
    runs.run(settings, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    pruned = [r for r in map(json.loads, lines) if r["stage"] == "pruned"]
    assert [record["epoch"] for record in pruned] == [0, 1]
    assert all(record["distillation_loss"] > 0 for record in pruned)
    keras.saving.load_model(tmp_path / "compacted.keras")


def test_a_given_baseline_is_what_is_pruned(tmp_path):
    keras.utils.set_random_seed(7)
    dense = models.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    dense.save(tmp_path / "baseline.keras")
    settings = dataclasses.replace(
        TINY, baseline=str(tmp_path / "baseline.keras"), prune_learning_rate=1e-9
    )
    runs.run(settings, tmp_path / "run")
    copied = keras.saving.load_model(tmp_path / "run" / "dense.keras")
    pruned = keras.saving.load_model(tmp_path / "run" / "pruned.keras")
    for before, copy, after in zip(
        dense.trainable_variables,
        copied.trainable_variables,
        pruned.trainable_variables,
        strict=True,
    ):
        np.testing.assert_array_equal(before, copy)
        before, after = before.numpy(), after.numpy()
        kept = after != 0
        np.testing.assert_allclose(after[kept], before[kept], rtol=1e-5, atol=1e-7)
        assert kept.any() or not before.any()
    stages = [
        record["stage"] for record in RunDirectory(tmp_path / "run", settings).metrics
    ]
    assert stages == ["pruned"]


def test_filters_go_where_the_dense_network_s_outputs_move_least(tmp_path):
    settings = dataclasses.replace(TINY, budget=("macs=0.5",), selection="sensitivity")
    result = runs.run(settings, tmp_path)
    dense, small = result["dense"], result["small"]
    assert 0.4 * dense["macs"] < small["macs"] <= 0.5 * dense["macs"]
    masks = keras.saving.load_model(tmp_path / "pruned.keras").masks()
    rates = [1 - kept.mean() for kept in masks.values()]
    assert max(rates) - min(rates) > 0.1  # at uniform rates all are alike
    spent = result["cost"]["sensitivity"]
    # 64 images, with nothing pruned and at each group's five rates.
    assert spent["images"] == 64 * (1 + 5 * len(masks))
    assert spent["macs"] == spent["images"] * dense["macs"]
    assert spent["processor_seconds"] > 0


def test_pruning_from_scratch_needs_no_dense_network(tmp_path, monkeypatch):
    settings = dataclasses.replace(
        TINY,
        dense_epochs=0,
        coupling="independent",
        budget=("macs=0.6",),
        num_classes=12,
    )
    data, read = evaluation.load_data(settings), []

    def examples():
        read.append((tmp_path / "run" / "pruned.keras").is_file())
        yield from data.test.as_numpy_iterator()

    signature = data.test.element_spec
    test = tf.data.Dataset.from_generator(examples, output_signature=signature)
    watched = dataclasses.replace(data, test=test)
    monkeypatch.setattr(evaluation, "load_data", lambda settings: watched)
    result = runs.run(settings, tmp_path / "run")
    assert read == [True]  # the test images: once, at the end
    assert "dense" not in result
    small = keras.saving.load_model(tmp_path / "run" / "compacted.keras")
    assert small.output.shape == (None, 12)
    dense = models.build("resnet8", input_shape=(8, 8, 1), num_classes=12)
    left = result["small"]["macs"] / pgmpf_tf.profile(dense).macs
    assert 0.38 < left <= 0.4
    assert result["agreement"]["masked_compacted_deviation"] <= 1e-5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"exclude": ("nothing*",)}, ValueError, "nothing"),
        ({"criterion": "beauty"}, ValueError, "beauty"),
        ({"model": "resnet21"}, ValueError, "resnet21"),
        ({"num_classes": 9}, ValueError, "at least 10.*num_classes=9"),
        ({"dataset": "letters"}, ValueError, "letters"),
        ({"baseline": "nowhere.keras"}, FileNotFoundError, "nowhere.keras"),
        ({"data_dir": "nowhere"}, FileNotFoundError, "nowhere"),
        pytest.param(
            {"on_device": True},
            ValueError,
            "`on_device` needs KERAS_BACKEND=jax",
            marks=pytest.mark.feature("images in the device's memory", refused=True),
        ),
    ],
)
def test_what_cannot_run_is_refused_before_training(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        runs.run(dataclasses.replace(TINY, **changes), tmp_path / "run")
    assert not list(tmp_path.rglob("*.keras"))
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_an_output_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("something")
    with pytest.raises(ValueError, match=r"must be a folder\. Received: output_dir="):
        runs.run(TINY, tmp_path / "run")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "run", TINY)
    with directory.opened():
        pass
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    path = directory.model_path("dense")
    directory.save_model(model, path)
    before = path.read_bytes()

    def save(partial):
        partial.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(model, "save", save)
    with pytest.raises(OSError, match="no space left"):
        directory.save_model(model, path)
    assert path.read_bytes() == before
    assert {p.name for p in directory.path.iterdir()} == {
        "settings.json",
        "dense.keras",
    }
