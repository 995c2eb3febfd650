import json

import pytest

from experiments.run import settings
from experiments.run.settings import METHODS, RunSettings
from pgmpf_tf import Budget, PruningConfig, schedules


def test_settings_survive_json():
    chosen = RunSettings(
        exclude=("stem*",), pruning=("dropout=0.25",), lr_drops=(0.5,), rate=0.7
    )
    assert RunSettings.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_the_cifar_recipe_is_the_published_one():
    recipe = settings.resolve("cifar")
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (200, 128, 0.1)
    assert [drop * recipe.epochs for drop in recipe.lr_drops] == [60, 120, 160]
    assert (recipe.lr_factor, recipe.momentum, recipe.weight_decay) == (0.2, 0.9, 5e-4)


def test_the_imagenet_recipes_are_the_published_ones():
    scratch = settings.resolve("imagenet")
    assert (scratch.epochs, scratch.weight_decay, scratch.lr_factor) == (100, 1e-4, 0.1)
    assert scratch.learning_rate / scratch.batch_size == pytest.approx(0.1 / 256)
    assert [drop * 100 for drop in scratch.lr_drops] == [30, 60, 90]
    assert scratch.exclude == ("*_shortcut_conv",)
    tuned = settings.resolve("imagenet_pretrained", baseline="resnet50.keras")
    assert tuned.warm_start
    assert tuned.prune_learning_rate / tuned.batch_size == pytest.approx(0.01 / 192)


def test_flags_override_and_learning_rates_scale_with_the_batch():
    recipe = settings.resolve("cifar", batch_size=256, epochs=3, model="resnet20")
    assert recipe.learning_rate == pytest.approx(0.2)
    assert recipe.prune_learning_rate == pytest.approx(0.02)
    assert (recipe.epochs, recipe.model) == (3, "resnet20")
    assert settings.resolve(
        "cifar", batch_size=256, learning_rate=0.3
    ).learning_rate == (pytest.approx(0.3))


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_method_becomes_the_librarys_configuration(method):
    config = RunSettings(method=method, dense_epochs=0).pruning_config()
    assert config == PruningConfig.preset(method)


def test_the_recipes_of_the_paper_have_its_schedules():
    for recipe in ("cifar", "imagenet"):
        assert settings.resolve(recipe).method == "pgmpf_published"


def test_pruning_overrides_fields_of_the_method():
    changes = ("suppression=cosine(end=0.4)", "dropout=0.25", "updates=every_epochs(2)")
    config = RunSettings(pruning=changes).pruning_config()
    assert config.suppression == schedules.cosine(end=0.4)
    assert (config.dropout, config.updates.epochs) == (0.25, 2)
    with pytest.raises(ValueError, match="`end` must be"):
        RunSettings(pruning=("rate=cubic(end=2)",))
    with pytest.raises(TypeError, match="`rate` must be a schedule"):
        RunSettings(pruning=("rate=linear",))


def test_pruning_from_scratch_and_from_a_trained_network_differ():
    scratch = RunSettings(method="pgmpf_published", dense_epochs=0).pruning_config()
    for warm in ({"dense_epochs": 3}, {"dense_epochs": 0, "baseline": "a.keras"}):
        config = RunSettings(method="pgmpf_published", **warm).pruning_config()
        assert config.suppression.end < scratch.suppression.end


def test_a_budget_stands_for_a_rate():
    assert RunSettings(rate=0.3).target() == 0.3
    chosen = RunSettings(budget=("macs=0.5", "params=0.25"), selection="global")
    assert chosen.target() == Budget(macs=0.5, params=0.25, strategy="global")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": ("cost=1",)}, r"`budget` must be name=fraction of macs.*'cost=1'"),
        ({"budget": ("macs",)}, r"budget=\('macs',\)"),
        ({"budget": ("macs=2",)}, r"`macs` must be a fraction in \(0, 1\)"),
        ({"budget": ("macs=half",)}, "`macs` must be a fraction.*'half'"),
        ({"rate": 1.0}, r"`rate` must be in \[0, 1\).*rate=1.0"),
        ({"rate": -0.1}, "rate=-0.1"),
        ({"method": "magic"}, "`method` must be one of baseline, .*method='magic'"),
        ({"strategy": "tpu"}, "strategy='tpu'"),
        ({"quantize": "int4"}, "quantize='int4'"),
        ({"qat_epochs": 2}, "`quantize` must be int8 with qat_epochs.*'none'"),
        ({"qat_epochs": 0, "quantize": "int8"}, "qat_epochs=0"),
        ({"coupling": "loose"}, "coupling='loose'"),
        ({"epochs": 0}, "epochs=0"),
        ({"held_out": -1}, "held_out=-1"),
        ({"dense_epochs": -1}, "dense_epochs=-1"),
        ({"dense_epochs": 0, "method": "baseline"}, "1 for the baseline"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"distillation": 1.5}, r"`distillation` must be in \[0, 1\]"),
        ({"distillation": 0.5, "dense_epochs": 0}, "0 where there is no dense network"),
        ({"selection": "global"}, "`selection` must be uniform without a budget"),
        (
            {
                "selection": "sensitivity",
                "budget": ("macs=0.5",),
                "dense_epochs": 0,
            },
            "`selection` must be another where there is no dense network",
        ),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"lr_drops": (60.0,)}, r"lr_drops=\(60.0,\)"),
        ({"formats": ("tflite", "pdf")}, r"formats=\('tflite', 'pdf'\)"),
        ({"pruning": ("speed=1",)}, r"`pruning` must be name=value of .*'speed=1'"),
        ({"pruning": ("dropout",)}, r"pruning=\('dropout',\)"),
        ({"pruning": ("dropout=2",)}, r"`dropout` must be .*dropout=2"),
    ],
)
def test_a_value_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        RunSettings(**changes)


def test_a_rate_and_a_budget_exclude_each_other():
    message = r"`rate` and `budget` exclude each other.*rate=0\.5, budget=\('macs=0.5"
    with pytest.raises(ValueError, match=message):
        settings.resolve("quick", rate=0.5, budget=("macs=0.5",))


def test_unknown_recipes_and_fields_are_named():
    with pytest.raises(ValueError, match="recipe='mnist'"):
        settings.resolve("mnist")
    with pytest.raises(ValueError, match=r"Unknown settings speed\. Known: "):
        settings.resolve("quick", speed=1)
    with pytest.raises(ValueError, match="needs `baseline`"):
        settings.resolve("imagenet_pretrained")
