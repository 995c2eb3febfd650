"""Rules that may not fit a layer that they are for, or have a defect."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from pgmpf_tf.channels.arrays import Array, NoRule
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.rules.base import Barrier, Layout, Rule, Sizes
from pgmpf_tf.rules.rebuilding import Cut, Rebuilt
from pgmpf_tf.rules.weights import Weights

T = TypeVar("T")


class Guarded(Rule):
    """A rule whose errors make a barrier, with the error as the reason, and a warning.

    Args:
        rule: the rule.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def label(self, node: Node, flow: Flow, inputs: list[Channels]) -> list[Channels]:
        return _guarded(node, lambda: self.rule.label(node, flow, inputs))

    def constants(
        self, node: Node, weights: Weights, values: list[Array]
    ) -> list[Array]:
        return _guarded(node, lambda: self.rule.constants(node, weights, values))

    def needs(
        self,
        node: Node,
        weights: Weights,
        needed: list[Array | None],
        values: list[Array],
    ) -> list[Array | None]:
        return _guarded(node, lambda: self.rule.needs(node, weights, needed, values))

    def layout(
        self,
        node: Node,
        kept: list[Array],
        needed: list[Array | None],
        read: list[Array | None],
    ) -> Layout:
        return _guarded(node, lambda: self.rule.layout(node, kept, needed, read))

    def rebuild(self, node: Node, weights: Weights, cut: Cut) -> Rebuilt:
        return _guarded(node, lambda: self.rule.rebuild(node, weights, cut))

    def role(self, node: Node, side: str, place: int) -> tuple[str, int]:
        return _guarded(node, lambda: self.rule.role(node, side, place))

    def macs(self, node: Node, sizes: Sizes) -> int | None:
        return _guarded(node, lambda: self.rule.macs(node, sizes))

    def inside(self, node: Node, sizes: Sizes) -> int:
        return _guarded(node, lambda: self.rule.inside(node, sizes))


def _guarded(node: Node, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except NoRule:
        raise
    except Exception as error:
        raise NoRule(failed(node, error)) from error


def failed(node: Node, error: Exception, what: str = "its rule fails") -> str:
    """The reason why a call keeps its channels after an error; warns of it."""
    reason = f"{what}: {type(error).__name__}: {error}"
    warnings.warn(
        f"{node.path!r} keeps all of its channels, since {reason}", stacklevel=2
    )
    return reason


def guard(rule: Rule) -> Rule:
    """The rule, guarded; a barrier needs no guard."""
    return rule if isinstance(rule, Barrier) else Guarded(rule)
