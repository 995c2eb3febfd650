"""What `pip install` puts into an environment."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import pgmpf_tf

_ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: building leaves files in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, source)
    shutil.copytree(
        _ROOT / "pgmpf_tf",
        source / "pgmpf_tf",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    command = "-m pip --disable-pip-version-check wheel --quiet --no-deps"
    subprocess.run(
        [sys.executable, *command.split(), "--no-build-isolation", "."],
        cwd=source,
        check=True,
    )
    (path,) = source.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_wheel_has_every_file_of_the_library(wheel):
    library = _ROOT / "pgmpf_tf"
    files = {
        path.relative_to(_ROOT).as_posix()
        for path in library.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "pgmpf_tf/py.typed" in files
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == files


def _read(wheel, file):
    (name,) = (name for name in wheel.namelist() if name.endswith(f".dist-info/{file}"))
    return wheel.read(name)


def test_wheel_has_the_version_that_the_library_tells(wheel):
    metadata = message_from_bytes(_read(wheel, "METADATA"))
    assert metadata["Version"] == pgmpf_tf.__version__


def test_command_calls_a_function_that_is_there(wheel, monkeypatch, capsys):
    scripts = configparser.ConfigParser()
    scripts.read_string(_read(wheel, "entry_points.txt").decode())
    command = EntryPoint("pgmpf_tf", scripts["console_scripts"]["pgmpf_tf"], "")
    monkeypatch.setattr(sys, "argv", ["pgmpf_tf", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.load()()
    assert ended.value.code == 0
    assert "compact" in capsys.readouterr().out


def test_bazel_has_a_target_for_each_folder_of_tests():
    tests = _ROOT / "tests"
    folders = {
        path.relative_to(tests).parts[0] for path in tests.glob("*/**/test_*.py")
    }
    named = re.search(
        r"for folder in \[(.*?)\]", (_ROOT / "BUILD").read_text("utf-8"), re.S
    )
    assert set(re.findall(r'"(\w+)"', named[1])) == folders
