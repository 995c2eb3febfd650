"""The rooms of the library, and who may enter which, read from the source."""

import ast
import builtins
import inspect
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pgmpf_tf

_ROOT = Path(__file__).parents[1]

# From the lowest to the highest: a room knows its own layer and those below, only.
_CHANNELS = (
    *("arrays", "nodes", "masks", "hooks", "tracing", "stand_ins"),
    *("merging", "opening", "graph", "sizes", "flow", "folding", "units"),
)
_LAYERS = [
    ["_checks", "_files", "_patterns"],
    [f"channels.{name}" for name in _CHANNELS],
    ["rules"],
    ["channels.analysis", "channels.elimination", "channels.origins"],
    ["profiling"],
    ["inserting"],
    ["copying"],
    ["compaction"],
    ["folding"],
    ["backends"],
    ["scores"],
    ["budgets"],
    ["methods"],
    ["training"],
    ["exporting"],
    ["reporting"],
    ["_commands"],
    ["delivery"],
    ["__init__"],
    ["__main__"],
]
# Packages whose __init__ is a door; all others are empty rooms.
_DOORS = {"pgmpf_tf", "pgmpf_tf.rules", "pgmpf_tf.exporting", "pgmpf_tf.reporting"}
_BACKENDS = {"tensorflow", "tf_keras", "ai_edge_litert", "jax", "torch"}


def _module_name(path: Path) -> str:
    parts = path.relative_to(_ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _sources(*packages: str) -> dict[str, Path]:
    """Every module of the packages, by its dotted name."""
    files = (path for name in packages for path in (_ROOT / name).rglob("*.py"))
    return {_module_name(path): path for path in files}


_LIBRARY = _sources("pgmpf_tf")
_EVERYTHING = _sources("pgmpf_tf", "experiments")


def _imported(path: Path) -> Iterator[tuple[str, str | None]]:
    """Modules that a file imports anywhere in it, with the name taken from each."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def _needed(path: Path) -> set[str]:
    """Modules of the repository that a file imports."""
    found = set()
    for module, name in _imported(path):
        inner = f"{module}.{name}"
        found.add(inner if inner in _EVERYTHING else module)
    return found & _EVERYTHING.keys()


def _layer(module: str) -> int:
    """Which layer a module is in: the entry that names it most exactly."""
    inside = module.partition(".")[2] or "__init__"
    entries = {entry: place for place, layer in enumerate(_LAYERS) for entry in layer}
    while inside not in entries:
        if "." not in inside:
            raise LookupError(f"_LAYERS does not say where {module} belongs")
        inside = inside.rpartition(".")[0]
    return entries[inside]


def _is_empty_room(module: str) -> bool:
    return _LIBRARY[module].name == "__init__.py" and module not in _DOORS


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _upward() -> set[tuple[str, str]]:
    return {
        (module, target)
        for module, path in _LIBRARY.items()
        if not _is_empty_room(module)
        for target in _needed(path)
        if not _is_empty_room(target) and _layer(target) > _layer(module)
    }


def test_nothing_lower_imports_anything_higher():
    assert not _upward()


def test_library_imports_nothing_of_experiments():
    wrong = {
        (module, target)
        for module, path in _LIBRARY.items()
        for target, _ in _imported(path)
        if target.split(".")[0] in ("experiments", "tests")
    }
    assert not wrong


def test_no_circle_of_imports():
    graph = {module: _needed(path) for module, path in _EVERYTHING.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_empty_rooms_import_nothing():
    wrong = [
        module
        for module, path in _LIBRARY.items()
        if _is_empty_room(module) and list(_imported(path))
    ]
    assert not wrong


# The one file of each backend in each of these rooms, and all that may import it.
_OWN_FILES = {
    f"pgmpf_tf.{room}.{backend}": backend
    for room in ("backends", "training")
    for backend in ("tensorflow", "jax", "torch")
}


def _may_import(module: str) -> set[str]:
    if _room(module) == "pgmpf_tf.exporting":
        return _BACKENDS
    return {_OWN_FILES[module]} if module in _OWN_FILES else set()


@pytest.mark.parametrize("module", _OWN_FILES)
def test_a_backend_s_file_holds_only_what_differs(module):
    lines = _LIBRARY[module].read_text("utf-8").splitlines()
    assert _OWN_FILES[module] in {target for target, _ in _imported(_LIBRARY[module])}
    assert len(lines) <= 150


def test_backends_are_imported_in_their_own_files_and_in_exporting():
    wrong = {
        (module, library)
        for module, path in _LIBRARY.items()
        for library in {target.split(".")[0] for target, _ in _imported(path)}
        if library in _BACKENDS - _may_import(module)
    }
    assert not wrong


def _bound(path: Path) -> Iterator[tuple[str, str]]:
    """Names that a module binds, with what each one is."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}")
                for alias in node.names
            )
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, f"{_module_name(path)}:{node.name}"


def test_no_name_shadows_a_module():
    """`import pgmpf_tf.reporting` yields the module, never a function of that name."""
    wrong = {
        (f"{package}.{name}", source)
        for package, path in _LIBRARY.items()
        if path.name == "__init__.py"
        for name, source in _bound(path)
        if f"{package}.{name}" in _LIBRARY and source != f"{package}.{name}"
    }
    assert not wrong


def _public() -> Iterator[tuple[str, object]]:
    """What users can name: functions, classes and their methods, by full name."""
    for name in pgmpf_tf.__all__:
        value = getattr(pgmpf_tf, name)
        inside = vars(value).items() if inspect.ismodule(value) else [(None, value)]
        for inner, entry in inside:
            if inner is not None and (
                inner.startswith("_") or not _is_of(entry, value.__name__)
            ):
                continue
            full = name if inner is None else f"{name}.{inner}"
            yield full, entry
            if inspect.isclass(entry):
                yield from (
                    (f"{full}.{key}", method)
                    for key, method in vars(entry).items()
                    if not key.startswith("_") and hasattr(method, "__doc__")
                )


def _is_of(entry: object, package: str) -> bool:
    return str(getattr(entry, "__module__", "")).startswith(package)


def _promised(docstring: str) -> list[str]:
    """Exceptions that the Raises section of a docstring names."""
    section = re.search(r"^Raises:\n((?:\n| +.*(?:\n|$))*)", docstring, re.MULTILINE)
    if section is None:
        return []
    return re.findall(r"^    ([\w.]+):", section.group(1), re.MULTILINE)


def test_promised_exceptions_are_public():
    promises = [
        (name, exception)
        for name, value in _public()
        for exception in _promised(inspect.getdoc(value) or "")
    ]
    assert len(promises) > 20  # the search above finds what it looks for
    known = vars(builtins).keys() | {*pgmpf_tf.__all__, *pgmpf_tf.rules.__all__}
    assert not [
        (name, exception) for name, exception in promises if exception not in known
    ]
