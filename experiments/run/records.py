"""What is written down while a stage trains: metrics, masks, cost, and its state."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras

import pgmpf_tf
from experiments.run.directory import RunDirectory

# A step computes the outputs, then the gradients of activations and of weights.
PASSES_OF_A_STEP = 3

COST = ("images", "macs", "seconds", "processor_seconds", "load")
"""What a record has beside the metrics of `fit`, see `EpochRecord`."""


class EpochRecord(keras.callbacks.Callback):
    """Writes metrics, masks and a checkpoint at every epoch's end.

    A record has the metrics of `fit` and the cost of the epoch's training, validation
    not counted: `images`, `macs` (multiply-accumulates of all its steps: three times
    the network's own per image, and once the teacher's), `seconds`,
    `processor_seconds` (of all threads of this process), and `load`, the machine's
    average of one minute.

    Args:
        stage: of the run.
        directory: where files go.
        first_epoch: the epoch that training begins with.
        images: examples in an epoch.
        teacher_macs: multiply-accumulates of the teacher for one image; 0 without.
    """

    def __init__(
        self,
        stage: str,
        directory: RunDirectory,
        first_epoch: int,
        images: int,
        teacher_macs: int = 0,
    ) -> None:
        super().__init__()
        self._stage = stage
        self._directory = directory
        self._images = images
        self._teacher_macs = teacher_macs
        # Epochs after the last checkpoint are trained again.
        self._records = [
            record
            for record in directory.metrics
            if record["stage"] != stage or record["epoch"] < first_epoch
        ]
        self._masks = directory.masks[: first_epoch + 1]
        self._cost: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clocks."""
        if epoch == 0:
            self._record_masks()
        self._cost = {}
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Stops the clocks: the epoch's steps are done, and validation begins."""
        if not self._cost:
            network = pgmpf_tf.profile(self.model).macs
            macs = PASSES_OF_A_STEP * network + self._teacher_macs
            self._cost = {
                "images": self._images,
                "macs": macs * self._images,
                "seconds": round(time.perf_counter() - self._wall, 3),
                "processor_seconds": round(time.process_time() - self._processor, 3),
                "load": round(os.getloadavg()[0], 2),
            }

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes what is known, and then the state to go on from."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        record = {"stage": self._stage, "epoch": epoch}
        self._records.append(record | values | self._cost)
        self._directory.write_metrics(self._records)
        self._record_masks()
        self._directory.save_model(
            self.model, self._directory.checkpoint_path(self._stage)
        )

    def _record_masks(self) -> None:
        if self._stage == "pruned":
            self._masks.append(
                {
                    group: "".join("01"[int(kept)] for kept in mask)
                    for group, mask in self.model.masks().items()
                }
            )
            self._directory.write_masks(self._masks)


def cost(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What each stage has cost, see `EpochRecord`.

    Args:
        records: of all epochs.

    Returns:
        By stage: epochs, images, MACs and seconds in all, and the mean load.
    """
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        stages.setdefault(record["stage"], []).append(record)
    return {
        stage: {"epochs": len(epochs)}
        | {key: sum(epoch[key] for epoch in epochs) for key in ("images", "macs")}
        | {
            key: round(sum(epoch[key] for epoch in epochs), 1)
            for key in ("seconds", "processor_seconds")
        }
        | {"load": round(sum(epoch["load"] for epoch in epochs) / len(epochs), 2)}
        for stage, epochs in stages.items()
    }
