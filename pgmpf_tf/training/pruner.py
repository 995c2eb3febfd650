"""Moves the masks: scores, ranking, and the pruning operation on the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.rates import check_removes, group_rates
from pgmpf_tf.budgets.search import settle_rates
from pgmpf_tf.channels.units import Analysis, Group, Member
from pgmpf_tf.scores.criterion import filter_matrix
from pgmpf_tf.scores.ranking import RoundTo, mask_without
from pgmpf_tf.scores.scoring import Scoring
from pgmpf_tf.training.mask_layout import MaskLayout, mask_index, mask_layout
from pgmpf_tf.training.optimizer_memory import scale_slots
from pgmpf_tf.training.settings import PruningSettings
from pgmpf_tf.training.state import PruningState
from pgmpf_tf.training.statistics import normalizations, scale_statistics


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
        normalizations: the layers with moving averages, and their calls per step.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        settings: PruningSettings,
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
        self.normalizations = normalizations(model)
        follows = {id(member.layer): member for member in self.members}
        self._of_layer = tuple(
            (layer, self._index(follows[id(layer)]))
            for layer, _ in self.normalizations
            if id(layer) in follows
        )
        self._of_variable: dict[int, list[Member]] = {}
        for member in self.members:
            self._of_variable.setdefault(id(member.variable), []).append(member)

    def _index(self, member: Member) -> np.ndarray:
        return mask_index(member, self._position)

    @property
    def round_to(self) -> RoundTo:
        """How the number of units that stay is rounded."""
        return self._settings.round_to

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
        if isinstance(budget, Budget) and budget.predictable:
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
        removed: Sequence[int],
        weight_mask: float,
        suppression: float,
        optimizer: keras.optimizers.Optimizer | None = None,
        *,
        kernels_only: bool = False,
        compound: bool = False,
        thorough: bool = False,
    ) -> None:
        """Scores all units, sets the masks, and prunes the weights by them.

        Groups whose filters are frozen lose nothing. Frozen slices of other layers, as
        of a BatchNorm, go when their filters are gone for good.

        Args:
            removed: the number of units to remove from each of `groups`.
            weight_mask: what is left of masked slices (a).
            suppression: the suppression of the steps that follow (lambda).
            optimizer: its memory of filters that are now gone for good is erased.
            kernels_only: whether biases and BatchNorm parameters are left alone.
            compound: whether slices that are masked already are multiplied by a once
                more, rather than by its change.
            thorough: whether slices are set to zero that should be zero already.

        Raises:
            ValueError: if scores are not finite. Nothing has changed then.
        """
        masks = [
            mask_without(scores, 0 if group.frozen else count)
            for group, scores, count in zip(
                self.groups, self.scores(), removed, strict=True
            )
        ]
        # The last entry is for slices without a unit.
        mask = np.concatenate([*masks, np.ones(1, np.float32)])
        again = weight_mask if compound else self._change_of(weight_mask)
        if not (thorough or compound) and self.holding:
            again = 1.0  # zero times zero
        before = keras.ops.convert_to_numpy(self.state.mask)
        factor = np.where(mask == 1.0, 1.0, np.where(before == 1.0, weight_mask, again))
        factor = factor.astype(np.float32)
        self.state.mask.assign(mask)
        self.state.weight_mask.assign(weight_mask)
        self.state.suppression.assign(suppression)
        if (factor != 1.0).any():
            self._scale(factor, kernels_only)
        gone = weight_mask == 0.0 and suppression == 1.0 and not kernels_only
        if gone:
            self._cut_frozen(mask)
        if gone and optimizer is not None:
            self._forget(optimizer, mask)

    def _change_of(self, weight_mask: float) -> float:
        """What masked slices are multiplied by, so that `weight_mask` is left."""
        before = float(keras.ops.convert_to_numpy(self.state.weight_mask))
        return weight_mask / before if before else 0.0

    @property
    def holding(self) -> bool:
        """Whether masked slices are zero and get no steps."""
        weight_mask, suppression = (
            float(keras.ops.convert_to_numpy(variable))
            for variable in (self.state.weight_mask, self.state.suppression)
        )
        return weight_mask == 0.0 and suppression == 1.0

    def _scale(self, factor: np.ndarray, kernels_only: bool) -> None:
        """Multiplies the slices of all members, and what BatchNorm knows of them."""
        for member in self.members:
            if not member.frozen and (member.role == "kernel" or not kernels_only):
                member.scale(factor[self._index(member)])
        for layer, index in self._of_layer:
            # The mean of a layer without gamma is a member, and is scaled above.
            scale_statistics(layer, factor[index], mean=layer.scale or kernels_only)
        # The layers behind see another network from here on.
        self.state.steps_since.assign(0)

    def _cut_frozen(self, mask: np.ndarray) -> None:
        """Sets slices to zero that are not trained, and so would not grow back."""
        for member in self.members:
            if member.frozen:
                member.scale(mask[self._index(member)])

    def forget(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Erases what an optimizer remembers of filters that are gone for good."""
        if self.holding and not self._settings.config.kernels_only:
            self._forget(optimizer, keras.ops.convert_to_numpy(self.state.mask))

    def _forget(self, optimizer: keras.optimizers.Optimizer, mask: np.ndarray) -> None:
        def factor(variable: keras.Variable) -> np.ndarray | None:
            values = np.ones(1, mask.dtype)
            for member in self._of_variable.get(id(variable), ()):
                values = values * member.broadcast(mask[self._index(member)])
            return None if values.all() else values

        scale_slots(optimizer, factor)

    def holds(self) -> bool:
        """Whether all slices that the masks remove are exactly zero."""
        return not any(values[gone].any() for _, values, gone in self._masked_slices())

    def hold(self) -> None:
        """Sets to zero what the masks remove, whatever it is."""
        for member, values, gone in self._masked_slices():
            if values[gone].any():
                values[gone] = 0.0
                member.variable.assign(np.moveaxis(values, 0, member.axis))

    def _masked_slices(self) -> Iterator[tuple[Member, np.ndarray, np.ndarray]]:
        """Each member, its slices along the first axis, and which are masked."""
        mask = keras.ops.convert_to_numpy(self.state.mask)
        for member in self.members:
            values = keras.ops.convert_to_numpy(member.variable).copy()
            values = np.moveaxis(values, member.axis, 0)
            yield member, values, mask[self._index(member)] == 0.0

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
