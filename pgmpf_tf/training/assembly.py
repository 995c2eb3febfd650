"""All that a wrapped model is made of, put together from the arguments of `wrap`."""

from __future__ import annotations

import dataclasses

import keras

from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.budgets.search import find_rates
from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.scores.criterion import Criterion
from pgmpf_tf.scores.scoring import Scoring
from pgmpf_tf.training.distillation import DistillationLoss
from pgmpf_tf.training.pruner import Pruner
from pgmpf_tf.training.settings import PruningSettings


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a wrapped model has beside the layers of the plain one.

    Attributes:
        settings: the arguments of `wrap`, with the rates that meet a budget.
        pruner: groups, masks and state.
        scoring: the criterion, which data may be given to.
        distillation: the teacher's part of the loss.
    """

    settings: PruningSettings
    pruner: Pruner
    scoring: Scoring
    distillation: DistillationLoss


def assemble(
    model: keras.Model,
    settings: PruningSettings,
    given: keras.Model | None,
    criterion: Criterion | None,
) -> Parts:
    """Finds groups, rates and masks; makes variables, but trains nothing.

    Args:
        model: a Functional or Sequential model.
        settings: the arguments of `wrap`.
        given: the model that the user had, if `model` was made of it.
        criterion: the criterion with its data, if they are at hand.

    Raises:
        ValueError: if there is nothing to prune, a pattern matches nothing, or a budget
            cannot be met.
    """
    scoring = Scoring(criterion or settings.criterion, (model, given or model))
    analysis = analyze(model, coupling=settings.coupling, exclude=settings.exclude)
    if isinstance(settings.rate, Budget) and settings.found_rates is None:
        rates = find_rates(
            model,
            analysis,
            scoring.scores(analysis.groups),
            settings.rate,
            settings.round_to,
        )
        settings = dataclasses.replace(settings, found_rates=rates)
    pruner = Pruner(model, analysis, settings, scoring)
    distillation = DistillationLoss(settings.distillation_weight, settings.temperature)
    return Parts(settings, pruner, scoring, distillation)
