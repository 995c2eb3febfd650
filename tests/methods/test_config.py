import json

import pytest

from pgmpf_tf.methods.config import PRESETS, PruningConfig

# FACTS of the family: (P_t, a_t, lambda_t) at epoch 0 and 4 of 10 for P = 0.5, dropout.
EXPONENTIAL = 0.5 * (1 - 4 ** (-4 / 1.25))
CUBIC = [1 - 0.9**3, 1 - 0.5**3]
DECAY = (1e-3 / (1 + 1e-5)) ** 0.4
FAMILY = {
    "hard": ([0.5, 0.5], [0, 0], [1, 1], 0),
    "sfp": ([0.5, 0.5], [0, 0], [0, 0], 0),
    "asfp": ([0, EXPONENTIAL], [0, 0], [0, 0], 0),
    "asrfp": ([0, EXPONENTIAL], [1, DECAY], [0, 0], 0),
    "pgmpf_no_dropout": ([0, EXPONENTIAL], [1, DECAY], CUBIC, 0),
    "pgmpf": ([0, EXPONENTIAL], [1, DECAY], CUBIC, 0.5),
}


@pytest.mark.parametrize("name", FAMILY)
def test_presets_are_the_family_of_the_paper(name):
    config = PruningConfig.preset(name)
    rates, masks, suppressions, dropout = FAMILY[name]
    assert [config.rate_at(t, 10, 0.5) for t in (0, 4)] == pytest.approx(rates)
    assert [config.weight_mask_at(t, 10) for t in (0, 4)] == pytest.approx(masks)
    assert [config.suppression_at(t, 10) for t in (0, 4)] == pytest.approx(suppressions)
    assert config.dropout == dropout


def test_every_preset_is_tested():
    assert set(FAMILY) == set(PRESETS)


def test_a_pretrained_model_has_its_own_constants():
    config = PruningConfig(pretrained=True)
    assert config.suppression_at(80, 100) == 1.0
    assert PruningConfig().suppression_at(80, 100) < 1.0
    assert PruningConfig().suppression_at(90, 100) == 1.0
    kappa_times_ten = (1e-5 / (1 + 1e-7)) ** 0.1
    assert config.weight_mask_at(10, 100) == pytest.approx(kappa_times_ten)
    named = config.replace(suppression_end=0.5, weight_mask_floor=0.1)
    assert named.suppression_at(50, 100) == 1.0
    assert named.weight_mask_at(10, 100) == pytest.approx((0.1 / 1.001) ** 0.1)


@pytest.mark.parametrize(("form", "value"), [("polynomial", 0.4375), ("constant", 0.5)])
def test_forms_of_the_rate(form, value):
    assert PruningConfig(rate_schedule=form).rate_at(4, 10, 0.5) == value


def test_cosine_form_of_the_suppression():
    config = PruningConfig(suppression_schedule="cosine", cosine_period=0.8)
    assert config.suppression_at(40, 100) == pytest.approx(0.5)


def test_a_config_survives_json():
    config = PruningConfig.preset("asfp", pretrained=True, rate_depth=0.2)
    text = json.dumps(config.get_config())
    assert PruningConfig.from_config(json.loads(text)) == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rate_schedule", "linear", "'exponential'"),
        ("suppression_schedule", "linear", "'cubic'"),
        ("frequency_unit", "batch", "'step'"),
        ("rate_depth", 0.0, r"\(0, 1\]"),
        ("rate_end", 1.5, r"\(0, 1\]"),
        ("weight_mask_end", 0, r"\(0, 1\]"),
        ("cosine_period", -1, r"\(0, 1\]"),
        ("weight_mask_start", -0.1, r"\[0, 1\]"),
        ("weight_mask_start", 1e-4, "floor"),
        ("suppression_level", 2, r"\[0, 1\]"),
        ("dropout", 1.1, r"\[0, 1\]"),
        ("weight_mask_floor", 0.0, r"\(0, 1\]"),
        ("suppression_end", 1.2, r"\(0, 1\]"),
        ("frequency", 0, "at least 1"),
    ],
)
def test_a_value_out_of_range_is_named(field, value, message):
    with pytest.raises(ValueError, match=f"`{field}`.*{message}.*"):
        PruningConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_end", "1"),
        ("dropout", True),
        ("frequency", 1.0),
        ("pretrained", 1),
        ("kernels_only", None),
    ],
)
def test_a_value_of_a_wrong_type_is_named(field, value):
    with pytest.raises(TypeError, match=f"`{field}`"):
        PruningConfig(**{field: value})


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"`method` must be one of 'hard'.*'lottery'"):
        PruningConfig.preset("lottery")
    with pytest.raises(ValueError, match=r"no fields \['rates'\]"):
        PruningConfig.from_config({"rates": 1})
