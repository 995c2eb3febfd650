"""A criterion at work on one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pgmpf_tf.channels.units import Group
from pgmpf_tf.scores.criterion import Criterion


class Scoring:
    """Scores the groups of a model by a criterion, whose data may change.

    Args:
        criterion: the criterion, with its data if it needs any and they are there.
        models: the model, and others with the same layers. The first that is compiled
            with a loss lends it to a criterion that needs one.

    Attributes:
        criterion: the same.
        models: the same.
    """

    def __init__(self, criterion: Criterion, models: Sequence[keras.Model]) -> None:
        self.criterion = criterion
        self.models = tuple(models)

    @property
    def criterion_data(self) -> Any:
        """The criterion's data, to be set again after a model is loaded from a file."""
        return getattr(self.criterion, "data", None)

    @criterion_data.setter
    def criterion_data(self, data: Any) -> None:
        if not self.criterion.needs_data:
            raise ValueError(
                "`criterion_data` is for a criterion that looks at data, such as "
                f"`criteria.Taylor(data)`, and this model's is {self.criterion!r}. "
                f"Received: criterion_data of type {type(data).__name__}"
            )
        criterion = self.criterion.with_data(data)
        criterion.check_data(self.models)
        self.criterion = criterion

    def scores(self, groups: Sequence[Group]) -> list[np.ndarray]:
        """The scores of the units of each group; see `Criterion.scores`."""
        return self.criterion.scores(groups, self.models)
