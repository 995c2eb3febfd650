"""Records of runs that are files: what is there is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def known(path: Path, settings: Record) -> Record | None:
    """The record of a run, or None if there is none yet.

    Args:
        path: its file.
        settings: what it must have been run with, as JSON gives them back.

    Raises:
        ValueError: it was run with others.
    """
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text("utf-8"))
    if record["settings"] != settings:
        raise ValueError(
            f"`runs_dir` holds runs with other settings: {record['settings']}. "
            f"Received: {settings}"
        )
    return record
