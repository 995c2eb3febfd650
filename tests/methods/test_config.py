import json

import pytest

from pgmpf_tf import schedules
from pgmpf_tf.methods.config import PRESETS, PruningConfig

# FACTS of the family: (P_t / P, a_t, lambda_t) at epoch 0 and 4 of 10, dropout.
EXPONENTIAL = 1 - 4 ** (-4 / 1.25)
CUBIC = [1 - 0.9**3, 1 - 0.5**3]
DECAY = (1e-3 / (1 + 1e-5)) ** 0.4
PUBLISHED = {
    "hard": ([1, 1], [0, 0], [1, 1], 0),
    "sfp": ([1, 1], [0, 0], [0, 0], 0),
    "asfp": ([0, EXPONENTIAL], [0, 0], [0, 0], 0),
    "asrfp": ([0, EXPONENTIAL], [1, DECAY], [0, 0], 0),
    "pgmpf_no_dropout": ([0, EXPONENTIAL], [1, DECAY], CUBIC, 0),
    "pgmpf_published": ([0, EXPONENTIAL], [1, DECAY], CUBIC, 0.5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_family_of_the_paper(name):
    config = PruningConfig.preset(name)
    *expected, dropout = PUBLISHED[name]
    found = [config.rate, config.weight_mask, config.suppression]
    for schedule, values in zip(found, expected, strict=True):
        assert [schedule(t / 10, 0.1) for t in (0, 4)] == pytest.approx(values)
    assert config.dropout == dropout
    assert config.updates == schedules.every_epochs()


def test_the_others_end_early():
    others = set(PRESETS) - set(PUBLISHED)
    assert others == {"pgmpf", "gradual"}
    for name in others:
        config = PruningConfig.preset(name)
        assert config.end <= 0.5
        assert config.final(config.end)
        assert not config.final(config.end - 0.01)
        assert config.updates == "auto"
    gradual = PruningConfig.preset("gradual")
    assert gradual.rate(0.15) == 1 - 0.5**3
    assert (gradual.weight_mask(0.0), gradual.suppression(0.0)) == (0.0, 1.0)
    assert PruningConfig() == PruningConfig.preset("pgmpf")


def test_a_pretrained_model_has_its_own_published_constants():
    config = PruningConfig.preset("pgmpf_published", pretrained=True)
    assert config.suppression(0.8, 0.01) == 1.0
    scratch = PruningConfig.preset("pgmpf_published")
    assert scratch.suppression(0.8, 0.01) < 1.0
    assert scratch.suppression(0.9, 0.01) == 1.0
    tenth = (1e-5 / (1 + 1e-7)) ** 0.1
    assert config.weight_mask(0.1) == pytest.approx(tenth)


def test_numbers_and_functions_are_schedules():
    config = PruningConfig(suppression=0.5, rate=lambda progress: progress)
    assert config.suppression == schedules.constant(0.5)
    assert config.rate(0.25) == 0.25
    assert (config.begin, config.end) == (0.0, 1.0)


def test_where_masks_begin_and_cease_to_move():
    late = PruningConfig(rate=schedules.cubic(begin=0.1, end=0.4))
    assert (late.begin, late.end) == (0.1, 0.4)
    soft = late.replace(weight_mask=schedules.decay(end=0.5))
    assert soft.end == 0.5
    # What is masked goes on learning, so it comes back until the very end.
    assert late.replace(suppression=0.5).end == 1.0
    assert PruningConfig.preset("hard").end == 0.0


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name):
    config = PruningConfig.preset(name, pretrained=True, dropout=0.25)
    text = json.dumps(config.get_config())
    assert PruningConfig.from_config(json.loads(text)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.5}, "`rate` must be 1 at the end of the run.*is 0.5"),
        ({"weight_mask": 1.0}, "`weight_mask` must be 0 at the end of the run"),
        ({"suppression": 2}, r"`suppression` must be .*\[0, 1\]"),
        ({"dropout": 1.1}, r"`dropout` must be .*\[0, 1\]"),
        ({"updates": 0}, "`updates` must be an int of at least 1"),
        ({"updates": "epoch"}, "`updates` must be one of 'auto'"),
    ],
)
def test_a_value_out_of_range_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        PruningConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [{"rate": "cubic"}, {"dropout": True}, {"updates": 1.5}, {"kernels_only": None}],
)
def test_a_value_of_a_wrong_type_is_named(fields):
    with pytest.raises(TypeError, match=f"`{next(iter(fields))}`"):
        PruningConfig(**fields)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of 'pgmpf'.*'lottery'"):
        PruningConfig.preset("lottery")
    with pytest.raises(ValueError, match=r"no fields \['rates'\]"):
        PruningConfig.from_config({"rates": 1})
