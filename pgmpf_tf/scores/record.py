"""Results of a measurement, each written at once: what was stopped goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf._files import staged, write_text


class Record:
    """The results so far, in memory and in a file.

    Args:
        path: the file, or None.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and path.is_dir():
            raise ValueError(f"`path` must be a file. {received('path', str(path))}")
        if path is not None:
            with staged(path.parent, "path"):
                pass  # found out now, and not after hours
        self._path = path
        self._content: dict[str, Any] = {}

    def open(self, identity: dict[str, Any], baseline: float) -> None:
        """Takes the results of the file, if there is one and it is of the same kind."""
        self._content = {**identity, "baseline": baseline, "values": {}}
        if self._path is None or not self._path.exists():
            return
        try:
            found = json.loads(self._path.read_text("utf-8"))
            other = [name for name, value in identity.items() if found[name] != value]
            if not np.isclose(found["baseline"], baseline, 1e-4, 1e-6, equal_nan=True):
                other.append("baseline")
            values = dict(found["values"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "`path` must be a file that `sensitivity` wrote. "
                f"{received('path', str(self._path))}"
            ) from error
        if other:
            raise ValueError(
                "The file holds another measurement. Delete it, or name another. "
                f"{received('path', str(self._path))}, which differs in "
                + ", ".join(
                    f"{name} ({found[name]!r}, now {self._content[name]!r})"
                    for name in other
                )
            )
        self._content["values"] = values

    def has(self, group: str, removed: int) -> bool:
        """Whether the metric without so many units of a group is known."""
        return not removed or str(removed) in self._content["values"].get(group, {})

    def value(self, group: str, removed: int) -> float:
        """The metric without so many units of a group; the baseline without none."""
        if not removed:
            return self._content["baseline"]
        return self._content["values"][group][str(removed)]

    def add(self, group: str, removed: int, value: float) -> None:
        """Takes in a result, and writes all of them to the file."""
        self._content["values"].setdefault(group, {})[str(removed)] = value
        if self._path is not None:
            write_text(self._path, json.dumps(self._content, indent=1))
