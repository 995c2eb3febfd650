"""The training step on Keras' PyTorch backend: what is specific to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import torch

from pgmpf_tf.training.masking import Apply, intercepted
from pgmpf_tf.training.trainer import Trainer


class MaskedTrainer(Trainer):
    """Mixin for a Keras model: its own train step, with masked filters slowed down."""

    def train_step(self, data: Any) -> Any:
        """Runs the model's own step; the optimizer sees masked gradients."""
        # Before the model is called, which moves BatchNorm's statistics at once.
        self._distillation.check()
        if not self._is_masked():
            return super().train_step(data)
        with intercepted([self.optimizer], self._apply):
            return super().train_step(data)

    def _apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        apply: Apply,
        gradients: Sequence[Any],
        variables: Any,
    ) -> None:
        with torch.no_grad():
            super()._apply(optimizer, apply, gradients, variables)
