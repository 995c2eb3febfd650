"""README and the site hold what they promise; `make docs` runs the guides."""

import importlib.util
import inspect
import json
import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

import pgmpf_tf

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = sorted((DOCS / "guides").glob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def text(path):
    return path.read_text("utf-8")


def blocks(path, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text(path))


@pytest.mark.feature("the five lines of README")
def test_python_in_readme_runs_word_for_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    keras_model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    import tensorflow as tf

    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
    train = tf.data.Dataset.from_tensor_slices((images, np.arange(8) % 4)).batch(8)
    names = {"keras_model": keras_model, "train": train, "val": train}
    parts = blocks(ROOT / "README.md", "python")
    assert parts
    for part in parts:
        exec(compile(part, "README.md", "exec"), names)
    assert names["small"].layers[1].filters == 4
    assert (tmp_path / "artifacts" / "model.tflite").is_file()


def test_landing_page_shows_the_same_python_as_readme():
    assert blocks(DOCS / "index.md", "python") == blocks(ROOT / "README.md", "python")


def test_make_has_the_targets_that_are_named():
    targets = set(re.findall(r"(?m)^(\w+):", text(ROOT / "Makefile")))
    named = {name for page in PAGES for name in re.findall(r"`?make (\w+)", text(page))}
    assert {"demo", "test", "docs"} <= named & targets
    assert named & {"demo", "test", "docs", "clean", "features"} == named & targets


def test_commands_name_modules_that_are_there():
    named = {
        module
        for page in [*PAGES, *GUIDES]
        for module in re.findall(r"-m\s+((?:experiments|pgmpf_tf)[\w.]*)", text(page))
    }
    assert "experiments.train" in named
    assert not [name for name in named if importlib.util.find_spec(name) is None]


def test_extras_that_are_named_exist():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    named = {
        extra
        for page in [*PAGES, *GUIDES]
        for found in re.findall(r'(?:pgmpf_tf|"\.)\[([\w,]+)\]', text(page))
        for extra in found.split(",")
    }
    assert named
    assert named <= project["optional-dependencies"].keys()


def links(page):
    markdown = re.sub(r"(?ms)^```.*?^```$|`[^`]*`", "", text(page))
    inline = re.findall(r"\]\(([^)\s]+)\)", markdown)
    defined = re.findall(r"(?m)^\[[^\]]+\]: (\S+)$", markdown)
    downloads = re.findall(r"(?s)\{download\}`[^`<]*<([^>]+)>`", text(page))
    return [link for link in inline + defined + downloads if "://" not in link]


@pytest.mark.parametrize(
    "page", [*PAGES, *GUIDES], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_to_files(page):
    targets = [(page.parent / link.split("#")[0]) for link in links(page)]
    assert not [target for target in targets if not target.exists()]


def test_every_guide_is_on_the_site_and_in_readme():
    readme, index = text(ROOT / "README.md"), text(DOCS / "index.md")
    assert GUIDES
    for guide in GUIDES:
        assert f"docs/guides/{guide.name}" in readme
        assert f"guides/{guide.stem}\n" in index


def test_reference_has_every_public_name():
    pages = "".join(text(page) for page in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"auto(?:function|class|exception):: ([\w.]+)", pages))
    listed |= {
        module.rpartition(".")[2]
        for module in re.findall(r"automodule:: ([\w.]+)", pages)
    }
    assert listed == set(pgmpf_tf.__all__)


def test_picture_is_what_its_script_draws():
    drawn = runpy.run_path(str(DOCS / "picture.py"))["picture"]()
    assert text(DOCS / "idea.svg") == drawn


def test_figures_in_readme_are_those_of_the_file():
    results = ROOT / "experiments" / "results" / "ladder.json"
    rungs = {
        f"{rung['network']}, {rung['precision']}": rung
        for rung in json.loads(text(results))["rungs"]
    }
    rows = re.findall(r"(?m)^\| ((?:dense|small), \w+) \| (.*) \|$", text(PAGES[2]))
    assert len(rows) == 3
    for name, cells in rows:
        rung = rungs[name]
        assert cells == (
            f"{rung['accuracy'] * 100:.2f} % | {rung['bytes']:,} bytes | "
            f"{rung['latency_ms']:.3f} ms"
        )


def test_matrix_has_a_row_for_each_family():
    table = runpy.run_path(str(DOCS / "support.py"))["table"]().splitlines()
    assert len({line.count("|") for line in table}) == 1
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in table}
    assert {"ResNet", "ResNetV2", "MobileNetV3", "ConvNeXt", "VGG"} <= cells.keys()
    assert cells["ResNet"][1] == "3"
    assert cells["VGG"][2] == "25%"


def test_backends_have_features_that_tests_are_marked_with():
    table = runpy.run_path(str(DOCS / "support.py"))["features"]().splitlines()
    assert table[0] == "| feature | TensorFlow | JAX | PyTorch |"
    rows = [row.strip("| ").split(" | ") for row in table[2:]]
    listed = {feature for feature, *_ in rows}
    assert listed
    answers = {answer for _, *answers in rows for answer in answers}
    assert answers <= {"yes", "no", "refused", "-"}
    tests = "".join(text(path) for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [feature for feature in listed if feature not in tests]


def test_what_is_installed_without_tensorflow_is_all_else_that_is_needed():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    (listed,) = re.findall(
        r"(?m)^pip install (keras .*) jax  # or",
        "".join(blocks(DOCS / "backends.md", "sh")),
    )
    assert {*listed.split()} == needed - {"tensorflow", "ai-edge-litert"}


def test_changelog_begins_with_this_version():
    versions = re.findall(r"(?m)^## (\S+)", text(ROOT / "CHANGELOG.md"))
    assert versions[0] == pgmpf_tf.__version__


def test_changelog_has_every_keyword_that_wrap_no_longer_has():
    from pgmpf_tf.training.deprecated import KEYWORDS

    changes = text(ROOT / "CHANGELOG.md")
    assert not [keyword for keyword in KEYWORDS if f"{keyword}=" not in changes]


def test_wrap_has_at_most_twelve_parameters():
    parameters = inspect.signature(pgmpf_tf.wrap).parameters.values()
    assert sum(p.kind is not p.VAR_KEYWORD for p in parameters) <= 12
