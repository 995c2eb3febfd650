"""Where a training run stands in its schedules, and what that means for the masks."""

from __future__ import annotations

import math

import keras
import numpy as np

from pgmpf_tf.methods.schedules import EveryEpochs
from pgmpf_tf.scores.ranking import kept_count
from pgmpf_tf.training.pruner import Pruner
from pgmpf_tf.training.settings import PruningSettings, is_rate_schedule, scheduled_rate

# An update costs a small part of a step, or two steps of the smallest networks. With so
# many steps to each the updates of a run stay below 1 % of it.
_STEPS_PER_UPDATE = 50
_MOST_UPDATES = 50

# After an update BatchNorm's statistics take some steps to be right again: none comes
# so shortly before the end of an epoch, where the network is validated and saved.
_STEPS_TO_SETTLE = 10

_EPSILON = 1e-6


class Progress:
    """Turns epochs and steps into updates of the masks.

    What must survive a restart (the epoch, up to where the masks are, whether the last
    update is done) is in the pruner's state; here is only what the run at hand says.

    Attributes:
        total: number of epochs of the schedules (T), or None before it is known.
        steps: steps per epoch, or None before they are known.
    """

    def __init__(self, pruner: Pruner, settings: PruningSettings) -> None:
        self._pruner = pruner
        self._settings = settings
        self.total: int | None = settings.epochs
        self.steps: int | None = None
        # The progress of the next update, so that no step has to ask a device for it.
        self._due = 0.0

    @property
    def epoch(self) -> int:
        """Epochs done so far, and so the number of the present one; -1 before start."""
        return int(_number(self._pruner.state.epoch))

    @property
    def finished(self) -> bool:
        """Whether the last update is done: masks stay, and masked filters stay zero."""
        return bool(_number(self._pruner.state.finished))

    @property
    def complete_after(self) -> int:
        """The number of epochs, nearly, after which the last update is done."""
        total = self._needed_total()
        _, end, _ = self._phase()
        return min(max(math.ceil(end * total), 1), total)

    @property
    def length_known(self) -> bool:
        """Whether `wrap` was given the length of the run."""
        return self._settings.epochs is not None

    @property
    def by_epochs(self) -> bool:
        """Whether the method updates masks between epochs only, as published."""
        return isinstance(self._settings.config.updates, EveryEpochs)

    def plan(self, epochs: int, steps: int | None = None) -> None:
        """Takes the length of the run from `fit`.

        Args:
            epochs: how many epochs `fit` is going to run.
            steps: steps per epoch, if they are known.

        Raises:
            ValueError: if the epochs are fewer than the schedules can do with.
        """
        self.steps = steps or self.steps
        if self._settings.epochs is None and not self.finished:
            end = max(self.epoch, 0) + epochs
            self._settings.check_epochs(end)
            self.total = end

    def start(self, optimizer: keras.optimizers.Optimizer | None) -> None:
        """Begins the first epoch, if that has not been done."""
        if self.epoch < 0 and self.by_epochs:
            self.update_at(-1, optimizer)
        elif self.epoch < 0:
            self._pruner.state.epoch.assign(0)

    def update_at(
        self, t: int, optimizer: keras.optimizers.Optimizer | None
    ) -> dict[str, float]:
        """The update after epoch `t`, or before the first epoch if `t` is -1.

        Returns:
            The values of the epoch: `pruning_rate` and `weight_mask` of the update,
            `suppression` of the steps before it.
        """
        total = self._needed_total()
        updates = self._settings.config.updates
        suppression = _number(self._pruner.state.suppression)
        if self.finished:
            pass
        elif t + 1 >= total:
            self.finish(optimizer)
        elif not isinstance(updates, EveryEpochs):
            self.advance((t + 1) / total, (t + 2) / total, optimizer)
        else:
            # The steps that follow are those of the next epoch.
            following = self._settings.config.suppression((t + 1) / total, 1 / total)
            if (t + 1) % updates.epochs == 0:
                self._update(max(t, 0) / total, 1 / total, optimizer, following)
            else:
                self._pruner.state.suppression.assign(following)
        self._pruner.state.epoch.assign(t + 1)
        return {**self.values(), "suppression": suppression}

    def update_to(
        self, progress: float, optimizer: keras.optimizers.Optimizer | None
    ) -> dict[str, float]:
        """An update in a loop that says how far it is, if it is time for one.

        Returns:
            The present values.

        Raises:
            ValueError: if the method updates masks between epochs only.
        """
        if self.by_epochs:
            raise ValueError(
                "This method updates masks between epochs: give `epoch`. "
                f"Received: progress={progress}"
            )
        if progress >= 1.0 and not self.finished:
            self.finish(optimizer)
        elif progress >= self._due:
            self.advance(progress, progress, optimizer)
        return self.values()

    def is_due(self, epoch: int, done: int) -> bool:
        """Whether it may be time for an update; known without asking any device.

        Args:
            epoch: the epoch, see `epoch`.
            done: steps of the epoch that are done.
        """
        if not (done and self.steps):
            return not done
        if self.steps - done < min(_STEPS_TO_SETTLE, self.steps // 2):
            return False
        progress = (epoch * self.steps + done) / (self._needed_total() * self.steps)
        return progress >= self._due

    def update_within(
        self, epoch: int, done: int, optimizer: keras.optimizers.Optimizer | None
    ) -> bool:
        """An update within an epoch, if it is time for one.

        Args:
            epoch: the epoch, see `epoch`.
            done: steps of the epoch that are done.
            optimizer: its memory of filters that are gone is erased.

        Returns:
            Whether there was one.
        """
        if not self.is_due(epoch, done):
            return False
        # Where steps are not known, the next occasion is the next epoch's begin.
        steps = self.steps or 1
        total = self._needed_total() * steps
        step = epoch * steps + done
        return self.advance(step / total, (step + 1) / total, optimizer)

    def advance(
        self,
        progress: float,
        following: float,
        optimizer: keras.optimizers.Optimizer | None,
    ) -> bool:
        """An update at a moment of the run, if it is time for one.

        Args:
            progress: the fraction of the run that is done.
            following: the progress at the next occasion for an update.
            optimizer: its memory of filters that are gone is erased.

        Returns:
            Whether there was one.
        """
        begin, end, count = self._phase()
        self._due = max(_number(self._pruner.state.reached), begin) - _EPSILON
        if progress < self._due or self.finished:
            return False
        distance = (end - begin) / count
        soonest = max(following, progress + _EPSILON)
        if distance:
            number = math.ceil((soonest - begin) / distance - _EPSILON)
            soonest = begin + max(number, 1) * distance
        target = min(max(soonest, progress), 1.0)
        self._update(progress, target - progress, optimizer)
        self._pruner.state.reached.assign(target)
        self._due = target - _EPSILON
        return True

    def end_epoch(
        self, steps: int, optimizer: keras.optimizers.Optimizer | None
    ) -> dict[str, float]:
        """Counts an epoch of so many steps; an update if the method wants one there.

        Returns:
            The values of the epoch, for History.
        """
        self.steps = steps or self.steps
        if self.by_epochs or self.epoch + 1 >= self._needed_total():
            return self.update_at(self.epoch, optimizer)
        self._pruner.state.epoch.assign(self.epoch + 1)
        return self.values()

    def finish(self, optimizer: keras.optimizers.Optimizer | None) -> None:
        """The last update: the whole rate, pruned filters zero, nothing passes."""
        self._pruner.settle()
        removed = self._removed(self._pruner.rates)
        self._pruner.update(removed, 0.0, 1.0, optimizer, thorough=True)
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
        self,
        progress: float,
        ahead: float,
        optimizer: keras.optimizers.Optimizer | None,
        suppression: float | None = None,
    ) -> None:
        """An update with the values of a moment, or with another suppression."""
        config = self._settings.config
        part = config.rate(progress, ahead)
        weight_mask = config.weight_mask(progress, ahead)
        if suppression is None:
            suppression = config.suppression(progress, ahead)
        if is_rate_schedule(self._settings.rate):
            now = scheduled_rate(self._settings.rate, self._step(progress, optimizer))
            part = now / max(self._pruner.rates, default=1.0)
        if (part, weight_mask, suppression) == (1.0, 0.0, 1.0):
            self.finish(optimizer)
            return
        rates = tuple(part * rate for rate in self._pruner.rates)
        if self.by_epochs:
            removed = self._removed(rates)
        else:
            removed = tuple(
                math.floor(part * count + 0.5)
                for count in self._removed(self._pruner.rates)
            )
        self._pruner.update(
            removed,
            weight_mask,
            suppression,
            optimizer,
            kernels_only=config.kernels_only,
            compound=self.by_epochs,
        )
        self._record_rate(rates)

    def _removed(self, rates: tuple[float, ...]) -> tuple[int, ...]:
        """How many units of each group are removed at these rates."""
        round_to = self._settings.round_to
        return tuple(
            len(group.units) - kept_count(len(group.units), rate, round_to)
            for group, rate in zip(self._pruner.groups, rates, strict=True)
        )

    def _phase(self) -> tuple[float, float, int]:
        """The progress at which masks begin and cease to move, and how many updates."""
        config, rate = self._settings.config, self._settings.rate
        begin, end = config.begin, config.end
        steps = self.steps * self.total if self.steps and self.total else None
        if is_rate_schedule(rate):
            first, last = (
                getattr(rate, name, 0) for name in ("begin_step", "end_step")
            )
            begin = min(first / steps, 1.0) if steps else 0.0
            end = max(begin, min(last / steps, 1.0)) if steps and last > 0 else 1.0
        if isinstance(config.updates, int):
            return begin, end, config.updates
        most = _MOST_UPDATES if steps is None else steps // _STEPS_PER_UPDATE
        return begin, end, max(1, min(most, _MOST_UPDATES))

    def _step(
        self, progress: float, optimizer: keras.optimizers.Optimizer | None
    ) -> int:
        """The number of the training step, whatever became of the optimizer's own."""
        if self.steps:
            return round(progress * self._needed_total() * self.steps)
        return 0 if optimizer is None else int(_number(optimizer.iterations))

    def _record_rate(self, rates: tuple[float, ...]) -> None:
        """Notes the rate over all groups; unequal rates count by units."""
        units = [len(group.units) for group in self._pruner.groups]
        same = len(set(rates)) == 1
        rate = rates[0] if same else np.average(rates, weights=units) if rates else 0.0
        self._pruner.state.rate.assign(rate)

    def _needed_total(self) -> int:
        if self.total is None:
            raise ValueError(
                "The number of epochs is not known: the schedules need it. Give "
                "`epochs=` to `wrap`, or train with `fit`, which knows it."
            )
        return self.total


def _number(variable: keras.Variable) -> float:
    return keras.ops.convert_to_numpy(variable).item()
