"""Moves the masks: scores, selection, and the pruning operation on the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.rates import check_removes, group_rates
from pgmpf_tf.budgets.search import settle_rates
from pgmpf_tf.channels.units import Analysis, Group, Member
from pgmpf_tf.scores.criterion import filter_matrix
from pgmpf_tf.scores.ranking import keep_mask
from pgmpf_tf.scores.scoring import Scoring
from pgmpf_tf.training.mask_layout import MaskLayout, mask_index, mask_layout
from pgmpf_tf.training.optimizer_memory import scale_slots
from pgmpf_tf.training.settings import Settings
from pgmpf_tf.training.state import PruningState


class Pruner:
    """The groups of one model, their masks, and how the masks move.

    Args:
        model: the model.
        analysis: which channels live and die together.
        settings: the arguments of `wrap`.
        scoring: scores the units.

    Attributes:
        analysis: which channels live and die together.
        groups: the groups that lose units in the end.
        rates: the rate that each of `groups` ends with.
        members: the variables that hold units of `groups`.
        state: the masks and the progress, as variables.
        layout: where each mask value goes in a training step.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        settings: Settings,
        scoring: Scoring,
    ) -> None:
        analysis.check_groups()
        rates = settings.found_rates
        if rates is None:
            rates = group_rates(analysis.groups, settings.target_rate)
            check_removes(analysis.groups, rates, settings.round_to)
        self._model = model
        self._settings = settings
        self._scoring = scoring
        self.analysis = analysis
        self.groups, self.rates = _pruned(analysis.groups, rates)
        scoring.criterion.check(self.groups)
        units = [unit for group in self.groups for unit in group.units.tolist()]
        self._position = np.full(analysis.unit_count + 1, len(units), np.int64)
        self._position[units] = np.arange(len(units))
        self.members = tuple(
            member
            for member in analysis.members
            if (self._index(member) < len(units)).any()
        )
        self.state = PruningState(len(units), settings.seed)
        self.layout: MaskLayout = mask_layout(self.members, self._position)
        self._of_variable = {id(member.variable): member for member in self.members}

    def _index(self, member: Member) -> np.ndarray:
        return mask_index(member, self._position)

    def scores(self) -> list[np.ndarray]:
        """The scores of the units of each of `groups`, as of this moment.

        Raises:
            ValueError: if a score is not finite, or if the criterion needs data, and
                there are none or no loss.
        """
        return self._scoring.scores(self.groups)

    def settle(self) -> None:
        """Makes the rates meet the budget with the filters that are to go now."""
        budget = self._settings.rate
        # A latency is not measured again.
        if isinstance(budget, Budget) and budget.latency is None:
            self.rates = settle_rates(
                self._model,
                dataclasses.replace(self.analysis, groups=self.groups),
                self.scores(),
                budget,
                self.rates,
                self._settings.round_to,
            )

    def update(
        self,
        rates: Sequence[float],
        weight_mask: float,
        suppression: float,
        optimizer: keras.optimizers.Optimizer | None = None,
        kernels_only: bool = False,
    ) -> None:
        """Scores all units, sets the masks, and prunes the weights by them.

        Args:
            rates: the fraction of units to remove from each of `groups`.
            weight_mask: what pruned slices are multiplied by (a).
            suppression: the suppression of the steps that follow (lambda).
            optimizer: its memory of filters that are now gone for good is erased.
            kernels_only: whether biases and BatchNorm parameters are left alone.

        Raises:
            ValueError: if scores are not finite. Nothing has changed then.
        """
        masks = [
            keep_mask(scores, rate, self._settings.round_to)
            for scores, rate in zip(self.scores(), rates, strict=True)
        ]
        # The last entry is for slices without a unit.
        mask = np.concatenate([*masks, np.ones(1, np.float32)])
        self.state.mask.assign(mask)
        self.state.weight_mask.assign(weight_mask)
        self.state.suppression.assign(suppression)
        factor = mask + np.float32(weight_mask) * (1.0 - mask)
        for member in self.members:
            if member.role == "kernel" or not kernels_only:
                member.scale(factor[self._index(member)])
        gone = weight_mask == 0.0 and suppression == 1.0 and not kernels_only
        if gone and optimizer is not None:
            self._forget(optimizer, mask)

    def _forget(self, optimizer: keras.optimizers.Optimizer, mask: np.ndarray) -> None:
        def factor(variable: keras.Variable) -> np.ndarray | None:
            member = self._of_variable.get(id(variable))
            if member is None:
                return None
            values = mask[self._index(member)]
            return None if values.all() else member.broadcast(values)

        scale_slots(optimizer, factor)

    def holds(self) -> bool:
        """Whether all slices that the masks remove are exactly zero."""
        mask = keras.ops.convert_to_numpy(self.state.mask)
        for member in self.members:
            gone = mask[self._index(member)] == 0.0
            values = np.moveaxis(
                keras.ops.convert_to_numpy(member.variable), member.axis, 0
            )
            if values[gone].any():
                return False
        return True

    def masks(self) -> dict[str, np.ndarray]:
        """The present mask of each group of the analysis, by the group's name."""
        mask = keras.ops.convert_to_numpy(self.state.mask)
        return {
            group.name: mask[self._position[group.units]]
            for group in self.analysis.groups
        }

    def norms(self) -> dict[str, np.ndarray]:
        """The L2 norm of the kernel slices of each unit, by the group's name."""
        # The last entry takes what NO_UNIT, which is -1, adds up.
        squares = np.zeros(self.analysis.unit_count + 1)
        for member in self.analysis.members:
            if member.role == "kernel":
                slices = np.square(filter_matrix(member)).sum(axis=1)
                np.add.at(squares, member.units, slices)
        return {
            group.name: np.sqrt(squares[group.units]) for group in self.analysis.groups
        }


def _pruned(
    groups: Sequence[Group], rates: Sequence[float]
) -> tuple[tuple[Group, ...], tuple[float, ...]]:
    """Leaves out the groups that keep everything: they must not cost anything."""
    chosen = [(group, rate) for group, rate in zip(groups, rates, strict=True) if rate]
    return tuple(g for g, _ in chosen), tuple(r for _, r in chosen)
