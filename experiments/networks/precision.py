"""The same network with layers that compute in another precision."""

from __future__ import annotations

from typing import Any

import keras

FILE_PRECISION = "float32"
"""What networks compute in when they are loaded from the files of a run."""


def in_precision(model: keras.Model, policy: str) -> keras.Model:
    """A copy of a model, not compiled, whose layers have another dtype policy.

    Args:
        model: a plain or a wrapped model.
        policy: `"float32"` or `"mixed_bfloat16"`; variables are float32 in both.

    Returns:
        The copy, with the values of all variables.
    """
    config = _changed(keras.saving.serialize_keras_object(model), policy)
    copy = keras.saving.deserialize_keras_object(config)
    for variable, source in zip(copy.variables, model.variables, strict=True):
        variable.assign(source)
    return copy


def _changed(config: Any, policy: str) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_changed(entry, policy) for entry in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return keras.saving.serialize_keras_object(keras.DTypePolicy(policy))
    return {
        key: _changed(value, policy)
        for key, value in config.items()
        if key != "compile_config"
    }
