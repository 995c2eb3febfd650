"""Whole artifacts or none: work beside the target, then rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_PREFIX, _SUFFIX = ".export-", ".partial"


@contextlib.contextmanager
def staged(
    directory: str | os.PathLike[str], argument: str = "directory"
) -> Iterator[Path]:
    """A hidden folder whose entries move into `directory` when the block succeeds.

    If the block raises, nothing of it is left, nor is a `directory` that was made for
    it. If the process dies, what is left is hidden (`.export-*.partial`) and never
    carries the name of an artifact. An entry that exists is replaced: a file in one
    step, a folder in two, between which it is absent.

    Args:
        directory: where the entries go; made if it is missing.
        argument: the caller's argument, for messages: the directory, or a file in it.

    Raises:
        ValueError: `directory` is a file, or cannot be made or written.
    """
    directory = Path(directory)
    made = _missing_parents(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=directory)
    except OSError as error:
        _remove_empty(made)
        place = "" if argument == "directory" else "in "
        raise ValueError(
            f"`{argument}` must be {place}a directory that can be made and written. "
            f"Received: {argument}={str(directory)!r} "
            f"({error.strerror or error})"
        ) from error
    staging = Path(name)
    work, replaced = staging / "new", staging / "old"
    with _ctrl_c_is_kept():
        try:
            work.mkdir()
            yield work
            replaced.mkdir()
            for entry in sorted(work.iterdir()):
                _sync(entry)
                _replace(entry, directory / entry.name, replaced)
        finally:
            try:
                shutil.rmtree(staging, ignore_errors=True)
            finally:  # what is left if that was interrupted
                shutil.rmtree(staging, ignore_errors=True)
                _remove_empty(made)


@contextlib.contextmanager
def _ctrl_c_is_kept() -> Iterator[None]:
    """Has Ctrl-C end the block even if somebody in it catches KeyboardInterrupt.

    Keras does where it begins to save a model, by an `except` of everything, and so
    does `shutil.rmtree`, by an OSError that takes its place. A handler of SIGINT that
    is not Python's own is left alone.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


def _replace(entry: Path, target: Path, replaced: Path) -> None:
    # rename(2) replaces a file by a file; every other pair needs the way cleared.
    if target.is_dir() or (target.exists() and entry.is_dir()):
        target.rename(replaced / target.name)
    entry.replace(target)


def _sync(entry: Path) -> None:
    """The bytes reach the disk before the name does."""
    for path in [entry, *entry.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _missing_parents(directory: Path) -> list[Path]:
    """The folders that `mkdir` will make, innermost first."""
    chain = [directory, *directory.parents]
    return [path for path in chain if not os.path.lexists(path)]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def write_text(path: str | os.PathLike[str], text: str, argument: str = "path") -> None:
    """Writes a text file that is there whole, or as it was before.

    Args:
        path: the file.
        text: what is in it.
        argument: the caller's argument that names it, for messages.

    Raises:
        ValueError: the folder cannot be made or written.
    """
    path = Path(path)
    with staged(path.parent, argument) as folder:
        (folder / path.name).write_text(text, "utf-8")


def remove_leftovers(directory: str | os.PathLike[str]) -> None:
    """Removes what processes that died in `staged` have left, at any depth.

    Only for who knows that no other process is writing there.
    """
    for path in Path(directory).rglob(f"{_PREFIX}*{_SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)


class FolderInUse(ValueError):
    """Another process is at work in a folder."""


@contextlib.contextmanager
def locked(directory: Path, argument: str = "directory") -> Iterator[None]:
    """Keeps other processes out of a folder; the lock dies with the process.

    Args:
        directory: the folder, which exists.
        argument: the caller's argument that names it, for messages.

    Raises:
        FolderInUse: another process holds the lock.
    """
    import fcntl  # Windows has none, and needs the rest of this module

    path = directory / ".lock"
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderInUse(
                    f"Another process is at work in {directory}. Wait for its end, or "
                    f"choose another `{argument}`."
                ) from error
            # Who held it before may have removed the file that was opened here.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
