import json
import sys

import keras
import numpy as np
import pytest
from rich.console import Console

import pgmpf_tf
from tests.training.networks import convnet, cross_entropy, images_and_labels


class Watched(keras.Model):
    """A model that counts how often it is evaluated, and stops after so many."""

    evaluations = 0
    stop_after = None

    def evaluate(self, *args, **kwargs):
        if self.evaluations == self.stop_after:
            raise KeyboardInterrupt
        self.evaluations += 1
        return super().evaluate(*args, **kwargs)


def compiled(metrics=("accuracy",), scale=1.0):
    plain = convnet()
    model = Watched(plain.input, plain.output, name="convnet")
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(scale * rng.normal(size=variable.shape))
    model.compile("sgd", cross_entropy(), metrics=list(metrics))
    return model


def measure(model, rates=(0.2, 0.5), **options):
    options = {"progress": False, "metric": "loss", **options}
    return pgmpf_tf.sensitivity(model, images_and_labels(), rates, **options)


@pytest.fixture(scope="module")
def whole():
    """A measurement without interruption; `loss` tells every mask apart."""
    return measure(compiled())


@pytest.mark.feature("`sensitivity`")
def test_each_value_is_that_of_a_model_pruned_there(whole):
    x, y = images_and_labels()
    assert whole.groups == ("first", "second")
    assert whole.rates == (0.2, 0.5)
    for name, row in zip(whole.groups, whole.values, strict=True):
        for rate, value in zip(whole.rates, row, strict=True):
            plain = compiled()
            pgmpf_tf.wrap(plain, {name: rate}).apply_masks()
            expected = plain.evaluate(x, y, verbose=0, return_dict=True)["loss"]
            assert value == pytest.approx(expected, rel=1e-5)
    assert len(np.unique(whole.values)) == 4
    dense = compiled().evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert whole.baseline == pytest.approx(dense, rel=1e-6)
    assert not whole.higher_is_better
    np.testing.assert_allclose(whole.drop, whole.values - whole.baseline)


@pytest.mark.parametrize("compile", [True, False])
def test_without_labels_it_is_how_far_the_outputs_move(compile, tmp_path):
    x, _ = images_and_labels()
    model = compiled() if compile else convnet()
    wanted = model.predict(x, verbose=0)
    path = tmp_path / "table.json"
    table = pgmpf_tf.sensitivity(model, x, (0.2, 0.5), progress=False, path=path)
    assert (table.metric, table.baseline) == ("output_distance", 0.0)
    assert not table.higher_is_better
    for name, row in zip(table.groups, table.values, strict=True):
        for rate, value in zip(table.rates, row, strict=True):
            plain = convnet()
            plain.set_weights(model.get_weights())
            pgmpf_tf.wrap(plain, {name: rate}).apply_masks()
            apart = plain.predict(x, verbose=0) - wanted
            expected = np.sqrt(np.mean(apart**2)) / np.std(wanted)
            assert value == pytest.approx(expected, rel=1e-4)
    budget = pgmpf_tf.Budget(macs=0.3, strategy="sensitivity", sensitivity=table)
    assert pgmpf_tf.wrap(model, budget)
    with pytest.raises(ValueError, match="another measurement"):
        pgmpf_tf.sensitivity(model, 2 * x, (0.2,), progress=False, path=path)


def test_weights_are_as_before_whatever_happens():
    model = compiled()
    before = model.get_weights()
    for stop_after in (None, 2):
        model.stop_after, model.evaluations = stop_after, 0
        try:
            measure(model)
        except KeyboardInterrupt:
            assert stop_after
        for value, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, old)


def test_it_goes_on_where_it_was_stopped(tmp_path, whole):
    path = tmp_path / "new" / "table.json"
    model = compiled()
    model.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        measure(model, path=path)
    model.stop_after, model.evaluations = None, 0
    table = measure(model, path=path)
    assert model.evaluations == 3  # the baseline, and the two that were missing
    np.testing.assert_allclose(table.values, whole.values, rtol=1e-5)
    model.evaluations = 0
    # A rate between those that are there removes as many filters of `second` (of 6).
    table = measure(model, (0.5, 0.2, 0.55, 0.0), path=path)
    assert table.rates == (0.0, 0.2, 0.5, 0.55)
    assert model.evaluations == 1
    np.testing.assert_allclose(table.values[:, 1:3], whole.values, rtol=1e-5)
    np.testing.assert_array_equal(table.values[:, 0], table.baseline)
    assert [entry.name for entry in path.parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("scale", "options", "difference"),
    [
        (1.1, {}, r"weights \('\w+', now '\w+'\)"),
        (1.0, {"metric": "accuracy"}, r"metric \('loss', now 'accuracy'\)"),
        (1.0, {"criterion": "l1"}, r"criterion \('l2', now 'l1'\)"),
        (1.0, {"exclude": "second"}, r"exclude \(\[\], now \['second'\]\)"),
    ],
)
def test_the_file_of_another_measurement_is_refused(
    tmp_path, scale, options, difference
):
    path = tmp_path / "table.json"
    measure(compiled(), (0.5,), path=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"another measurement.*{difference}"):
        measure(compiled(scale=scale), path=path, **options)
    assert path.read_bytes() == before


def test_other_data_and_other_files_are_refused(tmp_path):
    path = tmp_path / "table.json"
    model = compiled()
    measure(model, (0.5,), path=path)
    with pytest.raises(ValueError, match=r"another measurement.*baseline"):
        pgmpf_tf.sensitivity(
            model, images_and_labels(seed=9), metric="loss", path=path, progress=False
        )
    for junk in ("{", "[]", json.dumps({"weights": 3})):
        path.write_text(junk)
        with pytest.raises(ValueError, match="`path` must be a file that"):
            measure(model, path=path)
    with pytest.raises(ValueError, match="`path` must be a file"):
        measure(model, path=tmp_path)


def agreement(y, outputs):
    return keras.ops.cast(keras.ops.argmax(outputs, -1) == y, "float32")


def test_which_metric_and_which_way():
    table = measure(compiled(), metric=None)
    assert (table.metric, table.higher_is_better) == ("accuracy", True)
    np.testing.assert_allclose(table.drop, table.baseline - table.values)
    assert ((table.values >= 0) & (table.values <= 1)).all()
    assert measure(compiled(()), metric=None).metric == "loss"
    several = [keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2"), "accuracy"]
    assert measure(compiled(several), metric=None).metric == "top2"
    own = compiled([agreement])
    with pytest.raises(ValueError, match=r"metric 'agreement' shall be high.*`mode="):
        measure(own, metric=None)
    ours = measure(own, metric="agreement", mode="max")
    assert ours.higher_is_better
    np.testing.assert_allclose(ours.values, table.values, atol=1e-6)


def test_data_may_be_a_dataset_and_the_model_wrapped(whole):
    model = pgmpf_tf.wrap(compiled(), 0.5)
    model.compile("sgd", cross_entropy())
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(images_and_labels()).batch(8)
    table = pgmpf_tf.sensitivity(model, dataset, (0.2, 0.5), progress=False)
    np.testing.assert_allclose(table.values, whole.values, rtol=1e-5)
    assert all(mask.all() for mask in model.masks().values())


def test_other_criteria(whole):
    x, y = images_and_labels()
    table = measure(compiled(), (0.5,), criterion="taylor")
    plain = compiled()
    taylor = pgmpf_tf.criteria.Taylor((x, y))
    pgmpf_tf.wrap(plain, {"first": 0.5}, criterion=taylor).apply_masks()
    expected = plain.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert table.values[0, 0] == pytest.approx(expected, rel=1e-5)
    own = measure(compiled(), (0.5,), criterion=taylor)
    np.testing.assert_array_equal(own.values, table.values)
    assert table.values[0, 0] != pytest.approx(whole.values[0, 1], rel=1e-3)
    with pytest.raises(ValueError, match=r"group 'second'.*has none"):
        measure(compiled(), criterion="batchnorm_scale")


def test_a_budget_takes_it():
    plain = compiled()
    table = measure(plain, (0.25, 0.5, 0.75))
    spared = int(table.drop.mean(1).argmax())
    other = table.groups[1 - spared]
    model = pgmpf_tf.wrap(
        plain, pgmpf_tf.Budget(macs=0.2, strategy="sensitivity", sensitivity=table)
    )
    model.apply_masks()
    kept = {name: mask.mean() for name, mask in model.masks().items()}
    assert kept[table.groups[spared]] > kept[other]


def test_the_table_is_a_heat_map(whole):
    assert "first" in str(whole)
    assert f"{whole.values[1, 1]:.4g}" in str(whole)
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(whole)
    worst, best = whole.drop.argmax(), whole.drop.argmin()
    colors = [
        tuple(map(int, cell.split("m")[0].split(";")))
        for cell in capture.get().split("48;2;")[1:]
    ]
    assert len(colors) == 4
    # Less green to more red: pale green is best, and red worst.
    assert colors[worst][0] >= colors[best][0]
    assert colors[worst][1] < colors[best][1]


def test_the_figure_is_a_picture(tmp_path, whole, monkeypatch):
    path = whole.save_heatmap(tmp_path / "figures" / "map.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    lost = pgmpf_tf.Sensitivity(
        whole.groups, whole.rates, whole.values * np.nan, 0.5, "loss", False
    )
    assert "nan" in str(lost)
    assert np.isposinf(lost.drop).all()
    assert lost.save_heatmap(tmp_path / "lost.png").stat().st_size
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pgmpf_tf\[plots\]"):
        whole.save_heatmap(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_progress_is_shown_unless_told_otherwise(capsys):
    measure(compiled(), (0.5,), progress=True)
    assert "2/2" in capsys.readouterr().out
    measure(compiled(), (0.5,))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rates": (0.5, 1.0)}, ValueError, r"`rates\[1\]` .* in \[0, 1\)"),
        ({"rates": (0.5, np.nan)}, ValueError, r"`rates\[1\]` .* in \[0, 1\)"),
        ({"rates": ()}, ValueError, "`rates` must hold one number at least"),
        ({"rates": 0.5}, TypeError, "`rates` must be a sequence of numbers"),
        ({"rates": "half"}, TypeError, "`rates` must be a sequence of numbers.*'half'"),
        ({"metric": "auc"}, ValueError, "accuracy, loss. Received: metric='auc'"),
        ({"mode": "up"}, ValueError, "`mode` must be one of.*'up'"),
        ({"criterion": "l7"}, ValueError, "`criterion` must be one of"),
        ({"coupling": "loose"}, ValueError, "coupling.*'loose'"),
        ({"exclude": "conv9*"}, ValueError, "'conv9"),
        ({"exclude": ("first", "second")}, ValueError, "no filters that can be"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        measure(compiled(), **options)


def test_bad_models_and_data_are_named():
    data = images_and_labels()
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        pgmpf_tf.sensitivity("net", data)
    with pytest.raises(ValueError, match="`model` must be compiled"):
        pgmpf_tf.sensitivity(convnet(), data)
    with pytest.raises(ValueError, match="`data` is gone through several times"):
        pgmpf_tf.sensitivity(compiled(), iter([data]))
    with pytest.raises(TypeError, match=r"`data` must be what `fit` takes.*data=None"):
        pgmpf_tf.sensitivity(compiled(), None)
    with pytest.raises(ValueError, match=r"`data` must have targets.*Received: data"):
        pgmpf_tf.sensitivity(compiled(), data[0], metric="accuracy")
