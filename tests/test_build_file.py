"""BUILD is Starlark that is also Python syntax, so `ast` reads it."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = {"py_library", "py_binary", "py_test"}


def read_targets(text):
    """The rule and the keyword arguments of each target, by its name."""
    targets = []
    for statement in ast.parse(text).body:
        call = statement.value
        if call.func.id in RULES:
            arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
            targets.append((call.func.id, arguments))
    return targets


@pytest.fixture(scope="module")
def targets():
    return read_targets((ROOT / "BUILD").read_text("utf-8"))


def test_every_python_file_belongs_to_exactly_one_target(targets):
    folders = ("pgmpf_tf", "experiments", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files += ROOT.glob("*.py")
    listed = Counter(source for _, target in targets for source in target["srcs"])
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in files)
    assert {source for source, count in listed.items() if count > 1} == set()


def test_names_are_unique_and_labels_exist(targets):
    names = Counter(target["name"] for _, target in targets)
    assert {name for name, count in names.items() if count > 1} == set()
    for _, target in targets:
        for label in target.get("deps", []):
            assert label.startswith(":"), label
            assert label.removeprefix(":") in names, f"{target['name']} wants {label}"
        for file in target.get("data", []):
            assert (ROOT / file).is_file(), file


def test_the_kind_of_rule_fits_the_file(targets):
    for rule, target in targets:
        is_test = [Path(source).name.startswith("test_") for source in target["srcs"]]
        assert all(is_test) if rule == "py_test" else not any(is_test), target["name"]
        if rule != "py_library" and "main" not in target:
            # Bazel's own default for `main`.
            assert Path(target["srcs"][0]).stem == target["name"]
