"""The calls that a graph consists of, and the tensors between them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from pgmpf_tf.channels.arrays import Shape

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What an operation is called with: positional arguments, and those by name."""


@dataclass(eq=False)
class Tensor:
    """A symbolic tensor of the graph.

    Attributes:
        shape: its shape, batch first; None where a size is unknown.
        dtype: its dtype.
        name: its name.
        size: its shape as `pgmpf_tf.channels.sizes` settles it; None before that.
        batch: the axes along which the samples of a batch lie; none for what is made
            of weights alone.
        copies: how many entries along the batch axis each sample has (the windows
            of an image, say).
        mask_holder: holds its mask; tensors that are one and the same object while the
            model runs have one holder.
    """

    shape: Shape
    dtype: str
    name: str = ""
    size: Shape | None = None
    batch: tuple[int, ...] = (0,)
    copies: int = 1
    mask_holder: list[Tensor | None] = field(default_factory=lambda: [None])

    @property
    def mask(self) -> Tensor | None:
        """The Keras mask that it carries while the model runs."""
        return self.mask_holder[0]

    @mask.setter
    def mask(self, mask: Tensor | None) -> None:
        self.mask_holder[0] = mask


@dataclass(eq=False)
class Node:
    """One call of one operation.

    Attributes:
        operation: the Keras layer or operation that is called.
        args, kwargs: its call's arguments, with `Tensor`s for symbolic tensors.
        outputs: what the call returns, flat.
        path: the names of the nested models and opened layers it is in, and its own:
            `"backbone/block1/conv"`.
        name: its operation's name if no other operation of the graph has that; else
            one made of the path: `"backbone_block1_conv"`.
        reason: why a layer made of layers is one operation of the graph.
        shared: whether the layer is called several times.
        within: the opened layers that it is in, outermost first.
        is_mask: whether it computes a Keras mask, and the model does not call it.
        memo: what a rule has computed of this call and may want again.
        inputs: the tensors that it is called with, without masks, flat.
        masks: the Keras masks that it is called with, flat.
        carried: the mask that each of `inputs` carries then, if any.
        handed_on: the mask that each of `outputs` carries at first, if any.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    path: str = ""
    reason: str = ""
    name: str = ""
    within: tuple[keras.layers.Layer, ...] = ()
    is_mask: bool = False
    shared: bool = False
    memo: dict[str, Any] = field(default_factory=dict)
    inputs: list[Tensor] = field(init=False)
    masks: list[Tensor] = field(init=False)
    carried: list[Tensor | None] = field(init=False)
    handed_on: list[Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs, self.masks = [], []
        self.path = self.path or self.operation.name
        self.name = self.name or self.operation.name
        fill_in(
            (self.args, self.kwargs),
            lambda tensor: self.inputs.append(tensor),
            lambda mask: self.masks.append(mask),
        )
        self.carried = [tensor.mask for tensor in self.inputs]
        self.handed_on = [tensor.mask for tensor in self.outputs]

    @property
    def all_masks(self) -> list[Tensor]:
        """The masks that the call uses: as arguments, or asked of its tensors."""
        if not looks_masks_up(self.operation):
            return self.masks
        return self.masks + [mask for mask in self.carried if mask is not None]


def fill_in(
    arguments: Arguments,
    replace: Callable[[Tensor], Any],
    replace_mask: Callable[[Tensor], Any] | None = None,
) -> Arguments:
    """A call's arguments with something else for each `Tensor` in them, in order.

    Args:
        arguments: the arguments.
        replace: called with every tensor that is no mask.
        replace_mask: called with the masks: the tensors in arguments by the name of
            `mask` or `..._mask`. None leaves them.
    """

    def swap(leaf: Any) -> Any:
        return replace(leaf) if isinstance(leaf, Tensor) else leaf

    def swap_mask(leaf: Any) -> Any:
        if replace_mask is None or not isinstance(leaf, Tensor):
            return leaf
        return replace_mask(leaf)

    args, kwargs = arguments
    return tree.map_structure(swap, args), {
        name: tree.map_structure(swap_mask if is_mask(name) else swap, value)
        for name, value in kwargs.items()
    }


RULED: set[type] = set()
"""The classes of layers that rules speak for. `pgmpf_tf.rules` fills it."""


def ruled_class(kind: type) -> type | None:
    """The class whose rule holds for a class of layers, if there is one.

    A subclass shares its parent's rule only if it also shares its parent's `call`.
    """
    for parent in kind.__mro__:
        if parent in RULED:
            shared = getattr(kind, "call", None) is getattr(parent, "call", None)
            return parent if shared else None
    return None


_TAKE_THEM_AS_ARGUMENTS = "keras.src.layers."
_LOOK_THEM_UP = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
)


def takes_masks(operation: keras.Operation) -> bool:
    """Whether the masks that its tensors carry matter to an operation."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    named = any(map(is_mask, operation._call_signature.parameters))
    return named or looks_masks_up(operation)


def looks_masks_up(operation: keras.Operation) -> bool:
    """Whether an operation may ask its tensors for masks, beside its arguments."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    stock = type(operation).__module__.startswith(_TAKE_THEM_AS_ARGUMENTS)
    return not stock or isinstance(operation, _LOOK_THEM_UP)


def takes_context(operation: keras.Operation, name: str) -> bool:
    """Whether a call takes what an outer call hands to all layers: `training`, say."""
    return bool(getattr(operation, "_call_has_context_arg", {}).get(name))


def is_mask(name: str) -> bool:
    """Whether an argument of this name holds Keras masks."""
    return name == "mask" or name.endswith("_mask")


def has_weights(operation: keras.Operation) -> bool:
    """Whether an operation is a layer with weights."""
    return bool(getattr(operation, "weights", ()))


def part_of(operation: keras.Operation, part: str) -> Any:
    """What an operation holds: itself for "", or by a dotted path of attributes."""
    return operator.attrgetter(part)(operation) if part else operation
