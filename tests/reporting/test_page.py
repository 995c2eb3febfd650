"""The page of `report`, opened in a real browser."""

from pathlib import Path

import keras
import numpy as np
import pytest

import pgmpf_tf
from pgmpf_tf.exporting import Artifact, ExportReport, OutputError
from pgmpf_tf.methods.config import PruningConfig
from pgmpf_tf.scores.sensitivity_table import Sensitivity
from tests.reporting.browser import BAR_CONTRAST, CONTRASTS, chromium, show
from tests.training.networks import convnet, cross_entropy, images_and_labels

TITLE = '<script>document.title = "owned"</script> & <b>"title"</b>'
NETWORK = '<img src="x"> & dense'
EPOCHS = 6
RATES = (0.25, 0.5, 0.75)
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


ERRORS = (OutputError("scores", 1e-6, 2e-7, 3e-7, 1.0),)


def files(*rows):
    artifacts = tuple(
        Artifact(f, p, Path("out") / name, size, ERRORS, latency)
        for f, p, name, size, latency in rows
    )
    return ExportReport(artifacts, samples=12, source="random")


EXPORTS = {
    NETWORK: files(("tflite", "float32", "model.tflite", 1_000_000, 4.0)),
    "small": files(
        ("saved_model", "float32", "saved_model", 500_000, None),
        ("tflite", "int8", "model_int8.tflite", 250_000, 1.5),
    ),
}


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def restless(filters):
    """A criterion that changes its mind about filters at every step."""
    return 1.0 + np.sin(1e4 * filters.sum(axis=1))


@pytest.fixture(scope="session")
def run():
    """A wrapped model of which filters come and go, what fit returned, the rest."""
    x, y = images_and_labels()
    dense = convnet()
    config = PruningConfig.preset("sfp", kernels_only=True)
    model = pgmpf_tf.wrap(dense, 0.5, method=config, criterion=restless, seed=1)
    model.compile(keras.optimizers.SGD(0.05), cross_entropy(), metrics=["accuracy"])
    options = {"epochs": EPOCHS, "validation_data": (x, y), "verbose": 0}
    history = model.fit(x, y, 8, **options)
    return dense, pgmpf_tf.compact(model), history


@pytest.fixture(scope="session")
def page(run, tmp_path_factory):
    dense, small, history = run
    groups = tuple(history.masks[0])
    values = np.linspace(0.9, 0.1, len(groups) * len(RATES)).reshape(-1, len(RATES))
    report = pgmpf_tf.report(
        dense,
        small,
        history=history,
        exports=EXPORTS,
        sensitivity=Sensitivity(groups, RATES, values, 0.9, "accuracy", True),
        data=images_and_labels()[0],
        title=TITLE,
    )
    return report.save(tmp_path_factory.mktemp("page") / "report.html")


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
    return browser.execute_script(script, selector)


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_it_fits_the_window_and_can_be_read(browser, page, scheme, width):
    show(browser, page, scheme, width)
    inner, scroll = browser.execute_script(
        "return [innerWidth, document.scrollingElement.scrollWidth]"
    )
    assert inner == width
    assert scroll <= width
    sections = browser.execute_script(
        """return [...document.querySelectorAll('section')].map(s => {
            const box = s.getBoundingClientRect();
            return [s.id, s.checkVisibility() && box.height > 40 && box.width > 300];
        })"""
    )
    assert dict(sections) == dict.fromkeys(
        (
            "totals",
            "filters",
            "costs",
            "training",
            "masks",
            "sensitivity",
            "exports",
            "settings",
        ),
        True,
    )
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) >= 5
    assert {k: v for k, v in contrasts.items() if v < 4.5} == {}


def test_dark_and_light_differ(browser, page):
    colors = []
    for scheme in ("light", "dark"):
        show(browser, page, scheme)
        script = """const style = getComputedStyle(document.body);
            return [style.backgroundColor, style.color]"""
        colors.append(browser.execute_script(script))
    (light, ink), (dark, chalk) = colors
    assert light != dark
    assert ink != chalk


def test_nothing_is_loaded_and_nothing_goes_wrong(browser, page):
    browser.get_log("browser")
    show(browser, page)
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert browser.execute_script(script) == []
    assert browser.get_log("browser") == []


def test_names_are_shown_as_they_are(browser, page):
    show(browser, page)
    assert browser.title == TITLE
    assert texts(browser, "h1") == [TITLE]
    assert texts(browser, "#exports tbody th")[0] == NETWORK
    script = "return document.querySelectorAll('script, img').length"
    assert browser.execute_script(script) == 0


def test_links_lead_to_sections(browser, page):
    show(browser, page)
    script = """return [...document.querySelectorAll('nav a')].map(
        a => document.querySelector(a.hash)?.tagName)"""
    assert browser.execute_script(script) == ["SECTION"] * 8


def test_the_numbers_are_those_of_profile(browser, page, run):
    dense, small, _ = run
    show(browser, page)
    before, after = pgmpf_tf.profile(dense), pgmpf_tf.profile(small)
    macs, params, _ = texts(browser, "#totals .card")
    assert f"\n{after.macs:,}\n\nof {before.macs:,}, " in macs
    assert f"\n{after.params:,}\n\nof {before.params:,}, " in params
    kept = {row.name: row for row in after.layers}
    costly = [row for row in before.layers if row.macs]
    for cost, column in (("macs", 1), ("params", 2)):
        selector = f"#costs .pairs > div:nth-child({column}) .value"
        assert texts(browser, selector) == [
            f"{getattr(row, cost):,} → {getattr(kept[row.name], cost):,}"
            for row in costly
        ]


def test_the_first_box_has_agreement_accuracy_file_and_latency(browser, page, run):
    dense, small, history = run
    show(browser, page)
    facts = [text.split("\n") for text in texts(browser, "#totals .fact")]
    facts = {name: [line for line in rest if line] for name, *rest in facts}
    images, _ = images_and_labels()
    same = np.argmax(dense(images), -1) == np.argmax(small(images), -1)
    agreement = facts["Same top class as the dense network"]
    assert agreement == [f"{same.mean():.1%}", f"on {len(images)} samples"]
    accuracy = history.history["val_accuracy"][-1]
    assert facts["val_accuracy"] == [f"{accuracy:.4g}", "after the last epoch"]
    # The small network's file, and the dense one's where it is of the same kind.
    assert facts["model_int8.tflite"] == ["250.0 kB", "int8"]
    assert facts["Latency"] == ["1.5 ms", "for one batch"]


def test_bars_stand_out_from_what_is_behind_them(browser, page):
    """WCAG 2.2 asks for 3 to 1 of what is no text."""
    for scheme in ("light", "dark"):
        show(browser, page, scheme)
        for kind in ("part", "whole"):
            assert browser.execute_script(BAR_CONTRAST, f"#costs .bar .{kind}") >= 3


def test_a_bar_per_layer_with_filters(browser, page, run):
    dense, small, _ = run
    show(browser, page)
    expected = []
    for layer in dense.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            kept = small.get_layer(layer.name).kernel.shape[-1]
            expected.append((kept, layer.kernel.shape[-1]))
    assert len(expected) == 3
    assert expected[0][0] < expected[0][1]
    assert texts(browser, "#filters .value") == [f"{k} of {n}" for k, n in expected]
    parts = browser.execute_script(
        """return [...document.querySelectorAll('#filters .bar')].map(bar =>
            bar.querySelector('.part').getBoundingClientRect().width
            / bar.getBoundingClientRect().width)"""
    )
    np.testing.assert_allclose(parts, [k / n for k, n in expected], atol=0.01)


def test_strips_show_the_share_that_was_kept(browser, page, run):
    *_, history = run
    show(browser, page)
    tops = browser.execute_script(
        """return [...document.querySelectorAll('#masks svg.strip')].map(svg => {
            const path = svg.querySelector('path');
            return [...Array(svg.viewBox.baseVal.width).keys()].map(x =>
                [...Array(100).keys()].filter(y =>
                    path.isPointInFill(new DOMPoint(x + .5, (y + .5) / 100))).length);
        })"""
    )
    rows = texts(browser, "#masks tbody tr")
    for strip, row, group in zip(tops, rows, history.masks[0], strict=True):
        masks = np.stack([entry[group] for entry in history.masks], axis=1)
        np.testing.assert_allclose(strip, 100 * masks.mean(axis=0), atol=1)
        _, kept, returned, final = row.split("\t")[-4:]
        assert kept == f"{masks[:, -1].sum()} of {len(masks)}"
        assert returned == str((returns(masks) > 0).sum())
        steady = [
            t for t in range(EPOCHS + 1) if (masks[:, -1] == masks[:, t:].T).all()
        ]
        assert final == (f"after epoch {steady[0]}" if steady[0] else "from the start")


def returns(masks):
    return ((~masks[:, :-1]) & masks[:, 1:]).sum(axis=1)


def test_images_show_the_groups_in_which_filters_came_back(browser, page, run):
    *_, history = run
    show(browser, page)
    images = browser.execute_script(
        """return [...document.querySelectorAll('#masks svg.masks')].map(svg => {
            const {width, height} = svg.viewBox.baseVal;
            const paths = [...svg.querySelectorAll('path')];
            return [...Array(height).keys()].map(y => [...Array(width).keys()].map(
                x => paths.map(p => p.isPointInFill(new DOMPoint(x + .5, y + .5)))));
        })"""
    )
    captions = texts(browser, "#masks figcaption")
    all_masks = {
        group: np.stack([entry[group] for entry in history.masks], axis=1)
        for group in history.masks[0]
    }
    moved = {group: masks for group, masks in all_masks.items() if returns(masks).any()}
    assert moved
    assert texts(browser, "#masks figure h3") == list(moved)
    for cells, caption, masks in zip(images, captions, moved.values(), strict=True):
        steady, back = np.moveaxis(np.array(cells), 2, 0)
        assert sorted(map(tuple, steady | back)) == sorted(map(tuple, masks))
        assert sorted(map(tuple, back[back.any(axis=1)])) == sorted(
            map(tuple, masks[returns(masks) > 0])
        )
        assert f"{masks[:, -1].sum()} of {len(masks)} kept" in caption
    came_back = sum((returns(masks) > 0).sum() for masks in all_masks.values())
    assert f"{came_back} of 14 came back" in texts(browser, "#masks .note")[0]


def test_curves_pass_through_the_history(browser, page, run):
    *_, history = run
    show(browser, page)
    titles = texts(browser, "#training h3")
    assert titles == ["Schedules", "accuracy", "loss"]
    curves = browser.execute_script(
        """return [...document.querySelectorAll('#training .chart')].map(
            c => [...c.querySelectorAll('.curve')].map(p => p.getAttribute('d')))"""
    )
    loss, validated = (
        np.array([point.split() for point in path[1:].replace("h0", "").split("L")])
        for path in curves[2]
    )
    drawn = np.concatenate([loss, validated]).astype(float)
    values = np.array(history.history["loss"] + history.history["val_loss"])
    assert len(drawn) == 2 * EPOCHS
    # A straight line from values to coordinates, which grow downwards.
    slope, offset = np.polyfit(values, drawn[:, 1], 1)
    assert slope < 0
    np.testing.assert_allclose(slope * values + offset, drawn[:, 1], atol=0.1)
    np.testing.assert_allclose(np.diff(drawn[:EPOCHS, 0], 2), 0, atol=0.11)
    assert f"{values[EPOCHS - 1]:.4g}" in texts(browser, "#training .legend")[2]


def test_files_and_settings_are_told(browser, page):
    show(browser, page)
    rows = texts(browser, "#exports tbody tr")
    assert [row.split("\t")[0] for row in rows] == [NETWORK, "small", "small"]
    for part in (
        "model_int8.tflite",
        "int8",
        "250.0 kB",
        "1.5 ms",
        "1.0e-06",
        "100.0%",
    ):
        assert part in rows[2]
    (code,) = texts(browser, "#settings > pre")
    for part in (
        "rate=0.5",
        "kernels_only=True",
        "=restless",
        "seed=1",
        f"epochs={EPOCHS}",
    ):
        assert part in code
    (versions,) = texts(browser, "#settings dl")
    assert keras.__version__ in versions
    (optimizer,) = browser.execute_script(
        "return [...document.querySelectorAll('details pre')].map(e => e.textContent)"
    )
    assert '"learning_rate": 0.05' in optimizer


def test_what_is_not_given_is_left_out(browser, run, tmp_path):
    dense, small, _ = run
    show(browser, pgmpf_tf.report(dense, small).save(tmp_path / "report.html"))
    script = "return [...document.querySelectorAll('section')].map(s => s.id)"
    assert browser.execute_script(script) == ["totals", "filters", "costs", "settings"]
    assert texts(browser, "h1") == ["convnet: dense and small"]
    assert texts(browser, "#settings pre") == []
