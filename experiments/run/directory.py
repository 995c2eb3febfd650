"""A run's folder: what is in it is whole, whenever the process was killed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from experiments.run.settings import RunSettings
from pgmpf_tf._files import locked, remove_leftovers, staged, write_text


class RunDirectory:
    """The files of one run.

    `settings.json` comes first and `result.json` last; in between `metrics.jsonl`
    grows by a line per epoch, and `dense.keras`, `pruned.keras`, `compacted.keras`
    and the folder `exports` appear as they are finished. `STAGE_checkpoint.keras` is
    there while a stage trains, and `masks.jsonl` grows while that one prunes.
    `costs.json` has what was spent beside epochs. The page `report.html` is for people.

    Args:
        path: the folder.
        settings: what the run does.
        writable: False for the workers other than the chief, who leave no trace.

    Raises:
        ValueError: if the folder is a file, or holds a run with other settings.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: RunSettings,
        *,
        writable: bool = True,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self.writable = writable
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(
                f"`output_dir` must be a folder. Received: output_dir={str(path)!r}"
            )
        self._check_settings()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes out of it meanwhile.

        What a killed process has left half-written is removed.

        Raises:
            FolderInUse: another process is at work there.
            ValueError: the folder holds a run with other settings by now.
        """
        if not self.writable:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, "output_dir"):
            remove_leftovers(self.path)
            self._check_settings()
            if not (self.path / "settings.json").is_file():
                self._write_json("settings.json", self.settings.to_json())
            yield

    def _check_settings(self) -> None:
        path = self.path / "settings.json"
        if not path.is_file():
            return
        before = json.loads(path.read_text("utf-8"))
        now = self.settings.to_json()
        # Where the data lie has no influence on the outcome.
        places = {"data_dir", "tfds_dir"}
        keys = sorted((set(before) | set(now)) - places)
        changed = [
            f"{key} ({before.get(key)!r} before, now {now.get(key)!r})"
            for key in keys
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise ValueError(
                f"{self.path} holds a run with other settings: {', '.join(changed)}. "
                "Choose another `output_dir`, or give the settings of that run."
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """The outcome of a finished run, or None."""
        path = self.path / "result.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def finish(self, result: dict[str, Any]) -> None:
        """Writes the outcome, which marks the run as finished."""
        self._write_json("result.json", result)

    def model_path(self, stage: str) -> Path:
        """Where the model of a stage lies: `dense`, `pruned`, `compacted`."""
        return self.path / f"{stage}.keras"

    def checkpoint_path(self, stage: str) -> Path:
        """Where a stage that trains keeps its last epoch."""
        return self.path / f"{stage}_checkpoint.keras"

    def save_model(self, model: keras.Model, path: Path) -> None:
        """Saves a model under its name only when the file is whole."""
        if self.writable:
            with staged(path.parent) as folder:
                model.save(folder / path.name)
        else:
            # Every worker has a part in saving: some variables are read by all.
            with tempfile.TemporaryDirectory() as elsewhere:
                model.save(Path(elsewhere) / path.name)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One record per epoch trained, in order."""
        return self._read_lines("metrics.jsonl")

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replaces the records of all epochs."""
        self._write_lines("metrics.jsonl", records)

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """What was spent beside epochs, by what for."""
        path = self.path / "costs.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def write_cost(self, name: str, cost: dict[str, float]) -> None:
        """Adds to `costs`, or replaces what it was before."""
        self._write_json("costs.json", self.costs | {name: cost})

    @property
    def masks(self) -> list[dict[str, str]]:
        """The masks before the first epoch of pruning and after each one.

        By the name of the group: a `1` for each unit that stays, a `0` for others.
        """
        return self._read_lines("masks.jsonl")

    def write_masks(self, records: list[dict[str, str]]) -> None:
        """Replaces the masks of all epochs."""
        self._write_lines("masks.jsonl", records)

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        if not path.is_file():
            return []
        lines = path.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _write_lines(self, name: str, records: list[dict[str, Any]]) -> None:
        self._write(name, "".join(json.dumps(record) + "\n" for record in records))

    def _write_json(self, name: str, value: Any) -> None:
        self._write(name, json.dumps(value, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        if self.writable:
            write_text(self.path / name, text)
