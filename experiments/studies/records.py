"""Records of runs that are files: what is there is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def known(path: Path, **settings: Any) -> Record | None:
    """The record of a run, or None if there is none yet.

    Args:
        path: its file.
        settings: what must be in it, as JSON gives it back.

    Raises:
        ValueError: it was run with others.
    """
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text("utf-8"))
    found = {name: record[name] for name in settings}
    if found != settings:
        raise ValueError(
            f"`runs_dir` holds runs with other settings: {found}. Received: {settings}"
        )
    return record
