"""From a masked network to the small one, with the training that is under way."""

from __future__ import annotations

import warnings

import keras

from pgmpf_tf import compaction
from pgmpf_tf._checks import check_bool
from pgmpf_tf.backends.current import strategy_scope
from pgmpf_tf.training.optimizer_memory import cut_optimizer


def compact(model: keras.Model, *, compile: bool = False) -> keras.Model:
    """A plain, smaller Keras model that computes the same function.

    Removes every channel that is zero for all inputs, and every channel that nothing
    reads. It does not matter how the zeros came about: by `fit` or `apply_masks` of a
    wrapped model, or by another tool. An operation that is not known costs size, never
    correctness.

    Example:
        >>> model.fit(images, labels, epochs=10)
        >>> small = pgmpf_tf.compact(model, compile=True)
        >>> small.fit(images, labels, epochs=30, initial_epoch=10)

    Args:
        model: a built Keras model, wrapped by pgmpf_tf or not. It is not changed.
        compile: whether the result is compiled as `model` is and goes on where its
            training stands: loss, penalties on weights, loss weights, metrics, weighted
            metrics, `steps_per_execution`, `jit_compile` and `run_eagerly` are the
            same, and the optimizer has the same settings, learning rate or schedule and
            count of steps, and remembers of each weight what it did (momenta, averages
            of weights, accumulated gradients). Once the masks are final, the next steps
            of the small network are those of the masked one up to rounding: what is
            dropped gets no gradient any more. (Muon, Lamb, Adafactor and clipping by
            norm look at whole matrices, and see smaller ones.) A distance to a teacher
            ends here, with a warning.

    Returns:
        A Functional model of stock Keras layers (and the layers of your own that were
        in it), with the names and the structure of the inputs and outputs. It is not
        compiled, unless `compile` says so. Nested models are inlined.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built; or `compile` is true and it is not compiled,
            is of a class that trains in its own way, which a plain model would not,
            was made under another distribution strategy, or has an optimizer that
            cannot be made a second time.

    Warns:
        UserWarning: the pruning of a wrapped model is not complete; or `compile` is
            true, and the optimizer begins anew with some weights, which the message
            names, or the model learns from a teacher, and the result will not.
    """
    compile = check_bool("compile", compile)
    _warn_of_unfinished(model)
    if not compile:
        return compaction.compact(model)
    check_training(model)
    with strategy_scope(model):
        small, origins = compaction.compact_with_origins(model)
        optimizer, missing = cut_optimizer(
            model.optimizer, small.trainable_variables, origins
        )
        for origin in origins:
            # Also one that hangs on the variable alone, and not on its layer.
            origin.variable.regularizer = origin.source.regularizer
        arguments = model._compile_config.config
        small.compile(
            optimizer=optimizer,
            loss=arguments["loss"],
            loss_weights=arguments["loss_weights"],
            metrics=arguments["metrics"],
            weighted_metrics=arguments["weighted_metrics"],
            run_eagerly=model.run_eagerly,
            steps_per_execution=model.steps_per_execution,
            jit_compile=model.jit_compile,
            auto_scale_loss=False,  # the optimizer is the one that came of it
        )
    if getattr(model, "_distillation", None) and model._distillation.weight:
        warnings.warn(
            f"{model.name!r} learns from a teacher. The small network goes on with the "
            "loss of the task alone.",
            stacklevel=2,
        )
    if missing:
        warnings.warn(
            "What the optimizer remembers of these weights cannot be cut, and starts "
            f"anew: {_listed(missing)}.",
            stacklevel=2,
        )
    return small


def _warn_of_unfinished(model: keras.Model) -> None:
    progress = getattr(model, "_progress", None)  # of a wrapped model
    if progress is None or progress.finished:
        return
    rate = progress.values()["pruning_rate"]
    warnings.warn(
        f"The pruning of {model.name!r} is not complete, its pruning rate is "
        f"{rate:.2f} so far: what is not masked for good stays in the small network. "
        "Let `fit` reach the end of the schedules, or call `apply_masks()`.",
        stacklevel=3,
    )


def _listed(names: list[str], limit: int = 6) -> str:
    shown = ", ".join(names[:limit])
    more = len(names) - limit
    return f"{shown}, and {more} more" if more > 0 else shown


_OF_TRAINING = (
    "compile",
    "compute_loss",
    "compute_metrics",
    "evaluate",
    "fit",
    "test_step",
    "train_step",
)


def check_training(model: keras.Model) -> None:
    """Raises what keeps the training of a model from going on with a plain one."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: model={model!r} of type "
            f"{type(model).__name__}"
        )
    if not model.compiled:
        raise ValueError(
            "`compile=True` needs a model that is compiled. Received: "
            f"model={model.name!r}, on which `compile` was not called"
        )
    for name in _OF_TRAINING:
        owner = _own(type(model), name)
        if owner is not None:
            raise ValueError(
                "`compile=True` needs a model that Keras' own steps train, since the "
                f"compacted model is a plain one. Received: model={model.name!r}, for "
                f"which {owner.__name__} defines `{name}`. Call `compact(model)`, make "
                f"{owner.__name__} of its `input` and `output`, and compile that."
            )


def _own(cls: type, name: str) -> type | None:
    """The class of a user's own among the bases that first defines a method."""
    for base in cls.__mro__:
        library = base.__module__.partition(".")[0]
        if name in vars(base) and library != "pgmpf_tf":
            return None if library == "keras" else base
    return None
