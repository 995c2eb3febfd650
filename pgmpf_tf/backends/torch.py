"""PyTorch: eager execution, gradients by a tape in the tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

from pgmpf_tf.backends.base import Backend
from pgmpf_tf.backends.scopes import substituted


class Torch(Backend):
    """Nothing is compiled."""

    def compiled(
        self, function: Callable[..., Any], variables: Sequence[keras.Variable]
    ) -> Callable[..., Any]:
        def tensor(value: Any) -> Any:
            return None if value is None else keras.ops.convert_to_tensor(value)

        def pure(*arguments: Any) -> Any:
            tensors = keras.tree.map_structure(tensor, arguments)
            with torch.no_grad(), keras.StatelessScope():
                return function(*tensors)

        return pure

    def gradients(
        self, loss: Callable[[], Any], variables: Sequence[keras.Variable]
    ) -> list[Any]:
        # Not the parameters themselves: a frozen one has no gradient.
        values = [variable.value.detach().requires_grad_() for variable in variables]
        with torch.enable_grad(), substituted(variables, values):
            value = loss()
            found = torch.autograd.grad(value, values, allow_unused=True)
        return [
            torch.zeros_like(value) if gradient is None else gradient
            for value, gradient in zip(values, found, strict=True)
        ]

    def has_several_workers(self, model: keras.Model) -> bool:
        distributed = torch.distributed
        return distributed.is_initialized() and distributed.get_world_size() > 1
