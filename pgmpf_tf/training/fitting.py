"""How masks get into training, whatever the user's class makes of `fit`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras

from pgmpf_tf._checks import check_integer

_POSITIONS = [*inspect.signature(keras.Model.fit).parameters][1:]


Method = TypeVar("Method", bound=Callable[..., Any])


def with_signature_of_fit(method: Method) -> Method:
    """Lets a method that hands its arguments to `fit` show the signature of that.

    Not by `functools.wraps`: type checkers would take the result for no method.
    """
    vars(method)["__wrapped__"] = keras.Model.fit
    return method


def checked_epochs(
    fit: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> int | None:
    """The number of epochs that a call of `fit` names, if it names one.

    Args:
        fit: the method, see `replace_callbacks`.
        args: what it is called with by position.
        kwargs: what it is called with by name.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is below 1.
    """
    parameters = [*inspect.signature(fit).parameters.values()]
    names = [p.name for p in parameters]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        names = _POSITIONS
    epochs = {**dict(zip(names, args, strict=False)), **kwargs}.get("epochs")
    return None if epochs is None else check_integer("epochs", epochs, 1)


def warned_inside(model: keras.Model, outer: keras.layers.Layer | None) -> bool:
    """Whether a call of a wrapped model comes from another layer; warns if so.

    Args:
        model: the wrapped model.
        outer: the layer whose call has led to this one, or the model itself, or None.
    """
    if outer is None or outer is model:
        return False
    warnings.warn(
        f"The wrapped model {model.name!r} is trained as a part of {outer.name!r}, "
        "whose `fit` knows nothing of masks: it is not pruned, and what is pruned "
        "already grows back. Wrap the outer model instead, with `exclude=` for its "
        "other layers; or train in a loop with `update_masks` and `apply_gradients`.",
        stacklevel=3,
    )
    return True


def replace_callbacks(
    fit: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    change: Callable[[Any], Any],
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of a call of `fit`, with other callbacks.

    Args:
        fit: the method: Keras' own, or one of the user's that ends there.
        args: what it is called with by position.
        kwargs: what it is called with by name.
        change: from the callbacks to those that take their place.

    Raises:
        TypeError: if there is no way to hand callbacks to the method.
    """
    parameters = inspect.signature(fit).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if "callbacks" in parameters:
        call = inspect.signature(fit).bind(*args, **kwargs)
        call.arguments["callbacks"] = change(call.arguments.get("callbacks"))
        return call.args, call.kwargs
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        raise TypeError(
            f"`{fit.__qualname__}` takes no `callbacks`, by which a wrapped model "
            "updates its masks. Let it take `callbacks=None` or `**kwargs`, and hand "
            "these to `super().fit`; or train in a loop of your own, see "
            "`update_masks`."
        )
    position = _POSITIONS.index("callbacks")
    if inspect.Parameter.VAR_POSITIONAL in kinds and len(args) > position:
        new = change(args[position])
        return (*args[:position], new, *args[position + 1 :]), kwargs
    return args, {**kwargs, "callbacks": change(kwargs.get("callbacks"))}
