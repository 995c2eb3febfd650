"""What may be passed wrongly to a wrapped model, and to callbacks."""

import inspect

import keras

from pgmpf_tf import callbacks
from tests.bad_input.rows import NO_BOOL, WRAPPED, Target, X, Y, wrong_type, wrong_value

TARGETS = {
    "callbacks.PruningLog": Target(
        callbacks.PruningLog,
        {"log_dir": "logs"},
        {"log_dir": [wrong_type(3), wrong_type(None)], "histograms": NO_BOOL},
    ),
    "PrunedModel.update_masks": Target(
        WRAPPED.update_masks,
        {"epoch": 0},
        {
            "epoch": [
                wrong_type("a"),
                wrong_type(1.5),
                wrong_type(True),
                wrong_value(-2),
            ],
            "progress": [
                wrong_type("a", epoch=None),
                wrong_type(True, epoch=None),
                wrong_value(1.5, epoch=None),
                wrong_value(-0.1, epoch=None),
            ],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.apply_gradients": Target(
        WRAPPED.apply_gradients,
        {"gradients": list(WRAPPED.trainable_variables)},
        {
            "gradients": [wrong_type(3), wrong_type("x"), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.mask_gradients": Target(
        WRAPPED.mask_gradients,
        {"gradients": list(WRAPPED.trainable_variables)},
        {
            "gradients": [wrong_type(3), wrong_type("x"), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.stateless_mask_gradients": Target(
        WRAPPED.stateless_mask_gradients,
        {
            "gradients": list(WRAPPED.trainable_variables),
            "non_trainable_variables": list(WRAPPED.non_trainable_variables),
            "optimizer_variables": list(WRAPPED.optimizer.variables),
        },
        {
            "gradients": [wrong_type(3), wrong_value([])],
            "non_trainable_variables": [wrong_type(3), wrong_value([])],
            "optimizer_variables": [wrong_type(3), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.stateless_apply_gradients": Target(
        WRAPPED.stateless_apply_gradients,
        {
            "gradients": list(WRAPPED.trainable_variables),
            "trainable_variables": list(WRAPPED.trainable_variables),
            "non_trainable_variables": list(WRAPPED.non_trainable_variables),
            "optimizer_variables": list(WRAPPED.optimizer.variables),
        },
        {
            "gradients": [wrong_type(3), wrong_value([])],
            "trainable_variables": [wrong_type(3), wrong_value([])],
            "non_trainable_variables": [wrong_type(3), wrong_value([])],
            "optimizer_variables": [wrong_type(3), wrong_value([])],
            "optimizer": [wrong_type("sgd"), wrong_type(3)],
        },
    ),
    "PrunedModel.pruning_summary": Target(
        WRAPPED.pruning_summary, {}, {"print_fn": [wrong_type(3)]}
    ),
}

for fit in (WRAPPED.fit, WRAPPED.fit_and_shrink):
    TARGETS[f"PrunedModel.{fit.__name__}"] = Target(
        fit,
        {"x": X, "y": Y, "verbose": 0},
        {
            "epochs": [
                wrong_type(True),
                wrong_type("x"),
                wrong_type(1.5),
                wrong_value(0),
            ]
        },
        {
            name: "Keras takes it"
            for name in inspect.signature(keras.Model.fit).parameters
            if name not in ("self", "epochs")
        },
    )
