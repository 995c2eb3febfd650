"""The launcher as a process: its messages, kill -9, and several workers."""

import json
import signal
import socket
import time

import keras
import numpy as np
import pytest

import pgmpf_tf
from experiments.run import runner as runs
from experiments.run.settings import resolve
from tests import processes

SMALL = (
    "--train_examples=320",
    "--batch_size=32",
    "--dense_epochs=2",
    "--epochs=4",
    "--formats=",
)


def start(*flags, **environment):
    return processes.Program("experiments.train", *flags, **environment)


def weights(folder, stage="pruned"):
    assert pgmpf_tf.PrunedModel  # registers what the file holds
    return keras.saving.load_model(folder / f"{stage}.keras").get_weights()


def test_help_names_every_setting():
    code, output = start("--help").finish()
    assert code == 1  # what absl returns for help
    for name in ("--dataset", "--rate", "--method", "--strategy", "--output_dir"):
        assert name in output
    assert "Traceback" not in output


def test_a_bad_value_gives_a_message_and_no_folder(tmp_path):
    code, output = start("--rate=1.5", f"--output_dir={tmp_path / 'run'}").finish()
    assert code == 1
    assert "`rate` must be in [0, 1): the fraction of filters to remove" in output
    assert "Received: rate=1.5" in output
    assert "Traceback" not in output
    # The message is not lost among the descriptions of all flags.
    assert "--batch_size" not in output
    assert not (tmp_path / "run").exists()


def test_a_rate_beside_a_budget_is_not_ignored(tmp_path):
    flags = ("--rate=0.3", "--budget=macs=0.5", f"--output_dir={tmp_path / 'run'}")
    code, output = start(*flags).finish()
    assert code == 1
    assert "`rate` and `budget` exclude each other" in output


def stop_in_epoch(folder, stage, epoch, signal_number):
    """Runs until some steps after the given epoch, then sends the signal."""
    process = start(f"--output_dir={folder}", *SMALL)
    wanted = (stage, epoch)
    deadline = time.monotonic() + 300
    while process.is_running() and time.monotonic() < deadline:
        path = folder / "metrics.jsonl"
        text = path.read_text() if path.is_file() else ""
        records = [json.loads(line) for line in text.splitlines()]
        if wanted in [(record["stage"], record["epoch"]) for record in records]:
            break
        time.sleep(0.01)
    assert process.is_running(), process.finish()
    process.send_signal(signal_number)
    return process.finish()


@pytest.mark.feature("`python -m experiments.train`")
def test_a_run_that_was_stopped_twice_ends_as_the_uninterrupted_one(tmp_path):
    settings = resolve(
        train_examples=320, batch_size=32, dense_epochs=2, epochs=4, formats=()
    )
    whole = runs.run(settings, tmp_path / "whole")
    killed = tmp_path / "killed"
    code, output = stop_in_epoch(killed, "dense", 0, signal.SIGINT)
    assert code == 130
    assert output.endswith("Stopped. The same command goes on from here.\n")
    assert "Traceback" not in output
    assert not (killed / "dense.keras").exists()
    stop_in_epoch(killed, "pruned", 1, signal.SIGKILL)
    assert not (killed / "result.json").exists()
    code, output = start(f"--output_dir={killed}", *SMALL).finish()
    assert code == 0, output
    for stage in ("dense", "pruned", "compacted"):
        for found, expected in zip(
            weights(killed, stage), weights(tmp_path / "whole", stage), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    result = json.loads((killed / "result.json").read_text())
    assert result["small"]["accuracy"] == whole["small"]["accuracy"]
    epochs = [
        (record["stage"], record["epoch"])
        for record in map(json.loads, (killed / "metrics.jsonl").open())
    ]
    assert epochs == [("dense", e) for e in range(2)] + [
        ("pruned", e) for e in range(4)
    ]
    masks = [
        (tmp_path / name / "masks.jsonl").read_text().splitlines()
        for name in ("whole", "killed")
    ]
    assert len(masks[0]) == 5
    assert masks[0] == masks[1]
    assert not list(killed.rglob(".*"))


def test_two_replicas_train_prune_and_compact(tmp_path):
    processes.run("tests.experiments.mirrored_program", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["agreement"]["masked_compacted_deviation"] <= 1e-5
    assert result["small"]["macs"] < 0.3 * result["dense"]["macs"]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(folder, *flags):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [
        start(
            f"--output_dir={folder}",
            "--strategy=multi_worker",
            *flags,
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": workers},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]


@pytest.mark.slow  # by default: two replicas here, two workers in tests/training
def test_two_workers_train_prune_and_compact(tmp_path):
    workers = start_workers(tmp_path / "run", *SMALL, "--dense_epochs=1", "--epochs=2")
    for worker in workers:
        code, output = worker.finish()
        assert code == 0, output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["agreement"]["masked_compacted_deviation"] <= 1e-5
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow  # by default: two replicas here, two workers in tests/training
def test_a_chief_that_dies_ends_the_others_with_a_message(tmp_path):
    workers = start_workers(tmp_path / "run", *SMALL, "--dense_epochs=1000")
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "metrics.jsonl").is_file():
        assert time.monotonic() < deadline
        assert all(worker.is_running() for worker in workers)
        time.sleep(0.05)
    chief, worker = workers
    chief.send_signal(signal.SIGKILL)
    chief.finish()
    code, output = worker.finish()
    assert code == 1
    assert "Another worker has died" in output
