"""Histories joined, figures computed, very large networks, and bad input."""

import keras
import numpy as np
import pytest
from keras import layers

import pgmpf_tf
from pgmpf_tf.exporting import ExportReport
from pgmpf_tf.reporting import Report, figures
from pgmpf_tf.reporting.timeline import timeline, times_returned


def network(width):
    """A convolution of that many filters, and a classifier."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(width, 3, name="stem"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="head"),
        ]
    )


def history(values, masks=None, model=None):
    """What `fit` returns, of a run that a test has made up."""
    result = keras.callbacks.History()
    result.history = values
    result.epoch = list(range(len(next(iter(values.values())))))
    if model is not None:
        result.set_model(model)
    if masks is not None:
        result.masks = [{"conv": np.array(entry, bool)} for entry in masks]
    return result


def test_histories_are_joined_in_their_order():
    plain = {"loss": [5.0, 4.0]}
    first = history({"loss": [3.0], "suppression": [0.1]}, [[1, 1, 1], [0, 1, 1]])
    second = history({"loss": [2.0], "suppression": [1.0]}, [[0, 1, 1], [1, 0, 1]])
    joined = timeline([plain, first, second])
    assert joined.epochs == 4
    assert joined.starts == (2, 3)
    np.testing.assert_array_equal(joined.series["loss"], [5, 4, 3, 2])
    np.testing.assert_array_equal(joined.series["suppression"], [np.nan] * 2 + [0.1, 1])
    assert joined.masks_from == 2
    expected = [[1, 0, 1], [1, 1, 0], [1, 1, 1]]
    np.testing.assert_array_equal(joined.masks["conv"], np.array(expected, bool))
    np.testing.assert_array_equal(times_returned(joined.masks["conv"]), [1, 0, 0])


def test_one_history_is_a_list_of_one():
    one = history({"loss": [3.0, 1.0]}, [[1, 1], [0, 1], [0, 1]])
    alone, listed = timeline(one), timeline([one])
    np.testing.assert_array_equal(alone.masks["conv"], listed.masks["conv"])
    assert (alone.epochs, alone.starts) == (listed.epochs, listed.starts) == (2, ())


def test_values_without_an_epoch_are_named_but_not_drawn():
    every_second = {"loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [3.0, 1.0]}
    joined = timeline([every_second, {"loss": [0.5], "val_loss": [0.5]}])
    assert joined.omitted == ("val_loss",)
    assert list(joined.series) == ["loss"]
    page = pgmpf_tf.report(network(8), network(4), history=every_second).html
    assert "one number per epoch: val_loss" in page


def test_masks_of_two_models_are_refused():
    one = history({"loss": [1.0]}, [[1, 1], [1, 0]])
    other = history({"loss": [1.0]}, [[1, 1, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="histories of one wrapped model"):
        timeline([one, other])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "`history` must be what `fit` returned.*history=3"),
        ("loss", "`history` must be what `fit` returned.*history='loss'"),
        ([{}, 3], r"`history\[1\]` must be what `fit` returned"),
        ({"loss": 3.0}, r"`history\['loss'\]` must be a list"),
        ([{"loss": ["low"]}], r"`history\[0\]\['loss'\]` must be a list"),
    ],
)
def test_what_is_no_history_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        pgmpf_tf.report(network(8), network(4), history=value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dense": 3}, "`dense` must be a Keras model.*dense=3"),
        ({"small": None}, "`small` must be a Keras model.*small=None"),
        ({"exports": "model.tflite"}, "`exports` must be what `export` returned"),
        ({"exports": {"int8": 3}}, "`exports` must be what `export` returned"),
        ({"sensitivity": [0.5]}, r"`sensitivity` must be what.*=\[0.5\]"),
        ({"title": 3}, "`title` must be a string"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(arguments, message):
    arguments = {"dense": network(8), "small": network(4)} | arguments
    with pytest.raises(TypeError, match=message):
        pgmpf_tf.report(**arguments)


def test_a_network_that_is_not_the_small_one_is_refused():
    other = keras.Sequential([keras.Input((8,)), layers.Dense(3, name="other")])
    with pytest.raises(ValueError, match=r"`small` must be what `compact`.*'other'"):
        pgmpf_tf.report(network(8), other)


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(tmp_path):
    page = pgmpf_tf.report(network(8), network(4))
    path = tmp_path / "report.html"
    assert page.save(str(path)) == path
    assert path.read_text("utf-8") == page.html
    for place in (tmp_path / "nowhere" / "report.html", tmp_path, path / "report.html"):
        with pytest.raises(ValueError, match=r"`path` must be a file.*Received: path="):
            page.save(place)
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_whole_is_not_written(tmp_path):
    path = pgmpf_tf.report(network(8), network(4)).save(tmp_path / "report.html")
    before = path.read_bytes()
    half = Report(path.read_text("utf-8") + "\ud800")  # which UTF-8 does not have
    with pytest.raises(UnicodeEncodeError):
        half.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_input_gives_the_same_page():
    pages = {pgmpf_tf.report(network(8), network(4), title="one").html for _ in "12"}
    assert len(pages) == 1


def test_exports_are_taken_one_or_several():
    dense, small = network(8), network(4)
    export = ExportReport((), samples=12, source="random")
    pages = [
        pgmpf_tf.report(dense, small, exports=exports).html
        for exports in (export, [export], {"small": export})
    ]
    assert len(set(pages)) == 1  # without a file there is nothing to show


def test_a_curve_breaks_where_there_is_no_value():
    values = np.array([1.0, np.nan, 2.0, 3.0, np.inf, 1.0])
    (curve,) = figures.chart("loss", {"loss": values}).curves
    assert curve.path.count("M") == 3
    assert curve.path.count("L") == 1
    assert figures.chart("loss", {"loss": np.full(3, np.nan)}) is None


@pytest.mark.parametrize("values", [[0.0], [7.0] * 3, [-1e30, 1e30], [1e-12, 2e-12]])
def test_ticks_and_points_lie_in_the_frame(values):
    chart = figures.chart("loss", {"loss": np.array(values)})
    assert len(chart.y_ticks) >= 2
    assert len({label for _, label in chart.y_ticks}) == len(chart.y_ticks)
    heights = [y for y, _ in chart.y_ticks] + [chart.curves[0].end[1]]
    assert all(0 <= y <= figures.HEIGHT for y in heights)


def test_filters_that_returned_are_named_with_how_often():
    masks = np.array(
        [
            [1, 1, 1, 1, 1],
            [1, 0, 1, 0, 1],
            [1, 0, 0, 1, 1],
            [0, 1, 0, 0, 0],
            [0, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [0, 0, 0, 0, 1],
        ],
        bool,
    )
    image = figures.mask_image("conv", masks)
    assert image.returned == ((1, "2-4, 6"), (2, "1"))
    assert (image.kept, image.units, image.returned_count) == (4, 7, 5)


def test_the_page_of_400_layers_stays_below_a_megabyte():
    depth, epochs, width = 400, 60, 16
    stack = [keras.Input((4, 4, 3))]
    stack += [layers.Conv2D(4, 1, name=f"stage_conv_{i}") for i in range(depth)]
    model = keras.Sequential(stack)
    run = history({"loss": [1.0] * epochs, "accuracy": [0.5] * epochs})
    rng = np.random.default_rng(0)
    groups = [f"stage_conv_{i}" for i in range(depth)]
    run.masks = [
        dict(zip(groups, rng.random((depth, width)) < 0.5, strict=True))
        for _ in range(epochs + 1)
    ]
    page = pgmpf_tf.report(model, model, history=run).html
    assert page.count("4 of 4</span>") == depth
    # Filters, MACs, parameters, masks.
    assert page.count(f"{depth} in all: scroll") == 4
    assert len(page.encode()) < 1_000_000
    # What does not fit is named.
    drawn = page.count('class="masks"')
    assert 0 < drawn < depth
    named = page.split("are left out: ")[1].split(".</p>")[0].split(", ")
    assert drawn + len(named) == depth
