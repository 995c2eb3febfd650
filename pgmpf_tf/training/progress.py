"""Where a training run stands in its schedules, and what that means for the masks."""

from __future__ import annotations

import keras
import numpy as np

from pgmpf_tf.training.pruner import Pruner
from pgmpf_tf.training.settings import Settings, is_rate_schedule, scheduled_rate


class Progress:
    """Turns epochs into updates of the masks.

    What must survive a restart (the epoch, whether the last update is done) is in the
    pruner's state; here is only the number of epochs of the run at hand.

    Attributes:
        total: number of epochs of the schedules (T), or None before it is known.
    """

    def __init__(self, pruner: Pruner, settings: Settings) -> None:
        self._pruner = pruner
        self._settings = settings
        self.total: int | None = settings.epochs

    @property
    def epoch(self) -> int:
        """Epochs done so far, and so the number of the present one; -1 before start."""
        return _number(self._pruner.state.epoch)

    @property
    def finished(self) -> bool:
        """Whether the last update is done: masks stay, and masked filters stay zero."""
        return bool(_number(self._pruner.state.finished))

    def plan(self, epochs: int) -> bool:
        """Takes the number of epochs from `fit`, unless `wrap` was told.

        Args:
            epochs: how many epochs `fit` is going to run.

        Returns:
            Whether they reach the end of the schedules.

        Raises:
            ValueError: if they are fewer than the schedules can do with.
        """
        if self.finished:
            return True
        end = max(self.epoch, 0) + epochs
        if self._settings.epochs is None:
            self._settings.check_epochs(end)
            self.total = end
        return end >= self._needed_total()

    def update_at(
        self, t: int, optimizer: keras.optimizers.Optimizer | None
    ) -> dict[str, float]:
        """The update after epoch `t`, or before the first epoch if `t` is -1.

        Returns:
            The values of the epoch: `pruning_rate` and `weight_mask` of the update,
            `suppression` of the steps before it.
        """
        total = self._needed_total()
        suppression = _number(self._pruner.state.suppression)
        if t < 0:
            self._update(0.0, 0, optimizer)
        elif t + 1 >= total:
            self.finish(optimizer)
        elif self._due(t):
            self._update(float(t), t + 1, optimizer)
        else:
            self._pruner.state.suppression.assign(self._suppression(t + 1))
        self._pruner.state.epoch.assign(t + 1)
        return {**self.values(), "suppression": suppression}

    def update_within(
        self, fraction: float, optimizer: keras.optimizers.Optimizer
    ) -> None:
        """An update in the middle of an epoch, of which `fraction` is over."""
        # The update after epoch t is the one at which t + 1 epochs are over.
        t = max(self.epoch - 1 + fraction, 0.0)
        self._update(t, self.epoch, optimizer)

    def finish(self, optimizer: keras.optimizers.Optimizer | None) -> None:
        """The last update: the whole rate, pruned filters zero, nothing passes."""
        self._pruner.settle()
        self._pruner.update(self._pruner.rates, 0.0, 1.0, optimizer)
        self._record_rate(self._pruner.rates)
        self._pruner.state.finished.assign(1)

    def values(self) -> dict[str, float]:
        """The present values of the three schedules, for History."""
        state = self._pruner.state
        return {
            "pruning_rate": _number(state.rate),
            "suppression": _number(state.suppression),
            "weight_mask": _number(state.weight_mask),
        }

    def _update(
        self, t: float, epoch: int, optimizer: keras.optimizers.Optimizer | None
    ) -> None:
        """An update with the values of `t`, followed by steps of epoch `epoch`."""
        config, total = self._settings.config, self._needed_total()
        if is_rate_schedule(self._settings.rate):
            step = 0 if optimizer is None else _number(optimizer.iterations)
            rates = (scheduled_rate(self._settings.rate, step),) * len(
                self._pruner.rates
            )
        else:
            rates = tuple(config.rate_at(t, total, rate) for rate in self._pruner.rates)
        self._pruner.update(
            rates,
            config.weight_mask_at(t, total),
            self._suppression(epoch),
            optimizer,
            config.kernels_only,
        )
        self._record_rate(rates)

    def _suppression(self, epoch: int) -> float:
        return self._settings.config.suppression_at(epoch, self._needed_total())

    def _record_rate(self, rates: tuple[float, ...]) -> None:
        """Notes the rate over all groups; unequal rates count by units."""
        units = [len(group.units) for group in self._pruner.groups]
        same = len(set(rates)) == 1
        rate = rates[0] if same else np.average(rates, weights=units) if rates else 0.0
        self._pruner.state.rate.assign(rate)

    def _due(self, t: int) -> bool:
        config = self._settings.config
        return config.frequency_unit == "epoch" and (t + 1) % config.frequency == 0

    def _needed_total(self) -> int:
        if self.total is None:
            raise ValueError(
                "The number of epochs is not known: the schedules need it. Give "
                "`epochs=` to `wrap`, or train with `fit`, which knows it."
            )
        return self.total


def _number(variable: keras.Variable) -> float:
    return keras.ops.convert_to_numpy(variable).item()
