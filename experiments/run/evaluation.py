"""What a trained network is worth: accuracy, cost, deviation, and on what machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import pgmpf_tf
from experiments.data import datasets
from experiments.data.datasets import Data
from experiments.run.settings import RunSettings
from pgmpf_tf._files import staged


def finished_run(
    folder: Path,
) -> tuple[RunSettings, Data, dict[str, keras.Model]]:
    """What a finished run of experiments.train worked with, and what it made.

    Args:
        folder: the run's folder.

    Returns:
        Its settings, its data, and the networks `"dense"` and `"small"`.

    Raises:
        ValueError: the folder holds no finished run with both networks.
    """
    record = folder / "settings.json"
    paths = {"dense": folder / "dense.keras", "small": folder / "compacted.keras"}
    missing = [str(p) for p in (record, *paths.values()) if not p.is_file()]
    if missing:
        raise ValueError(
            "`run_dir` must be the folder of a finished run of experiments.train. "
            f"Received: run_dir={str(folder)!r}, without {', '.join(missing)}"
        )
    settings = RunSettings.from_json(json.loads(record.read_text("utf-8")))
    networks = {
        name: keras.saving.load_model(path, compile=False)
        for name, path in paths.items()
    }
    return settings, load_data(settings), networks


def load_data(settings: RunSettings) -> Data:
    """The data set that the settings name."""
    return datasets.load(
        settings.dataset,
        data_dir=settings.data_dir,
        tfds_dir=settings.tfds_dir,
        train_examples=settings.train_examples,
        held_out=settings.held_out,
        input_size=settings.input_size,
    )


def test_set(data: Data, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All test images as the network takes them, and their labels."""
    return data.arrays(data.test, batch_size)


def tflite_outputs(path: Path, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Runs a float `.tflite` file of one input and one output with ai-edge-litert.

    Args:
        path: the file.
        images: shape `(n, height, width, channels)`.
        batch_size: images per call; the file must allow it.

    Returns:
        The outputs, shape `(n, classes)`.
    """
    runner = Interpreter(str(path)).get_signature_runner()
    (input_name,) = runner.get_input_details()
    outputs = []
    for start in range(0, len(images), batch_size):
        (batch,) = runner(**{input_name: images[start : start + batch_size]}).values()
        outputs.append(batch)
    return np.concatenate(outputs)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images whose largest logit is the label's."""
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest expected magnitude."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def same_classes(found: np.ndarray, expected: np.ndarray) -> float:
    """Fraction of the images with the same largest logit."""
    return float(np.mean(np.argmax(found, -1) == np.argmax(expected, -1)))


def cost(model: keras.Model, path: Path) -> dict[str, int]:
    """Parameters, multiply-accumulates and bytes of a model and its file."""
    profile = pgmpf_tf.profile(model)
    return {
        "params": profile.params,
        "macs": profile.macs,
        "conv_macs": profile.conv_macs,
        "keras_bytes": path.stat().st_size,
    }


def environment() -> dict[str, Any]:
    """Versions and hardware, to stand beside a result."""
    backend = keras.backend.backend()
    names = dict.fromkeys(("tensorflow", backend, "keras", "numpy", "ai-edge-litert"))
    versions = {name: importlib.metadata.version(name) for name in names}
    return {
        "backend": backend,
        "python": platform.python_version(),
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    } | versions


def write_results(
    output: str | Path, name: str, text: str, content: Mapping[str, Any]
) -> None:
    """Writes `NAME.md`, and `NAME.json` with the machine that it was measured on.

    Args:
        output: the folder.
        name: of both files.
        text: for people; it is printed, too.
        content: what JSON can hold.
    """
    record = {"environment": environment(), **content}
    with staged(output) as folder:
        (folder / f"{name}.md").write_text(text, "utf-8")
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
