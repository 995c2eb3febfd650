"""Combinations of settings, of which a balanced part is run, and what comes of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a run is about, apart from the method and the seed."""

    data: str
    epochs: int
    rate: float
    decay: str
    optimizer: str
    start: str

    @property
    def name(self) -> str:
        """The values, one after the other."""
        return "-".join(map(str, dataclasses.astuple(self)))


FACTORS: Mapping[str, tuple[Any, ...]] = {
    "data": ("digits", "fashion_mnist", "cifar10"),
    "epochs": (3, 10, 30),
    "rate": (0.3, 0.5, 0.7),
    "decay": ("constant", "cosine"),
    "optimizer": ("sgd", "adamw"),
    "start": ("trained", "scratch"),
}


def cells() -> list[Cell]:
    """36 combinations in which any two values of two factors meet equally often.

    A Latin square of the factors with three values, times half of the combinations of
    those with two: an orthogonal array of strength 2.
    """
    chosen = []
    for places in itertools.product(*(range(len(v)) for v in FACTORS.values())):
        threes, twos = places[:3], places[3:]
        if sum(threes) % 3 == 0 and sum(twos) % 2 == 0:
            values = (v[p] for v, p in zip(FACTORS.values(), places, strict=True))
            chosen.append(Cell(*values))
    return chosen


def name_of(record: Record) -> str:
    """The combination that a run belongs to."""
    return Cell(**{f.name: record[f.name] for f in dataclasses.fields(Cell)}).name


def summary(records: Iterable[Record], part: str, reference: str) -> list[Record]:
    """Each method's difference from another in the same cells and seeds.

    Args:
        records: of runs.
        part: which accuracy is compared.
        reference: the method that the others are held against.

    Returns:
        For each method and each value of each factor (and for all): `cells`, `seeds`,
        `mean` of the accuracy, `ahead`, the mean difference from the other, `error`,
        the standard error of that over cells (or seeds, where there is one cell), and
        `worst`, the worst cell's mean.
    """
    by_key: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        key = name_of(record), record["method"]
        by_key.setdefault(key, {})[record["seed"]] = record
    rows = []
    methods = dict.fromkeys(method for _, method in by_key)
    values = [("all", None), *((f, v) for f, vs in FACTORS.items() for v in vs)]
    for method, (factor, value) in itertools.product(methods, values):
        ahead, means, counts = [], [], set()
        for (cell, other), runs in by_key.items():
            others = by_key.get((cell, reference), {})
            seeds = sorted(set(runs) & set(others))
            first = runs[min(runs)]
            if other != method or not seeds or first.get(factor) != value:
                continue
            counts.add(len(seeds))
            means.append(np.mean([runs[s][part] for s in seeds]))
            pairs = [runs[s][part] - others[s][part] for s in seeds]
            ahead.append(np.mean(pairs))
        if ahead:
            spread = ahead if ahead[1:] else pairs
            error = _standard_error(spread) if spread[1:] else None
            rows.append(
                {
                    "method": method,
                    "factor": factor,
                    "value": value,
                    "cells": len(ahead),
                    "seeds": max(counts),
                    "mean": float(np.mean(means)),
                    "ahead": float(np.mean(ahead)),
                    "error": error,
                    "worst": float(min(ahead)),
                }
            )
    return rows


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
