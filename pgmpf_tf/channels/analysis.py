"""From the graph of a model to its units: walk the labels through, collect, group."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from pgmpf_tf._checks import check_choice, check_strings
from pgmpf_tf._patterns import check_patterns, matches, path_names
from pgmpf_tf.channels.arrays import Array, NoRule, unknown
from pgmpf_tf.channels.flow import Channels, Flow
from pgmpf_tf.channels.folding import fold_gathers
from pgmpf_tf.channels.graph import Graph, trace
from pgmpf_tf.channels.nodes import has_weights
from pgmpf_tf.channels.units import NO_UNIT, Analysis, Group, Member, Pin
from pgmpf_tf.rules import Barrier, rule_for

COUPLINGS = ("grouped", "independent")


def analyze(
    model: keras.Model,
    *,
    coupling: str = "grouped",
    exclude: Sequence[str] = (),
) -> Analysis:
    """Finds which filters of a model live and die together, and which must stay.

    It does not matter which layers are trainable at present.

    Args:
        model: a built Keras model.
        coupling: `"grouped"` ties channels that are added to each other;
            `"independent"` does not, as in the paper: each convolution loses its own
            filters and the sum keeps its width.
        exclude: patterns, as in a shell, for names or paths of layers, or of what they
            are in (`"backbone/*"`); filters of these layers stay.

    Returns:
        Units, groups, members and pins.

    Raises:
        ValueError: the model is not built, the coupling is unknown, or a pattern
            matches no layer.
    """
    check_choice("coupling", coupling, COUPLINGS)
    graph = fold_gathers(trace(model))
    patterns = _checked(exclude, graph)
    flow = Flow(independent=coupling == "independent")
    uncovered = _walk(graph, flow)
    for labeled in flow.variables.values():
        if any(matches(pattern, path_names(labeled.path)) for pattern in patterns):
            flow.pin(labeled.labels, f"layer '{labeled.path}' is excluded")
    for labeled in [*flow.variables.values(), *flow.inputs.values()]:
        if id(labeled.owner) in uncovered:
            reason = uncovered[id(labeled.owner)]
            flow.pin(labeled.labels, f"layer '{labeled.path}' {reason}")
    return _collect(flow)


def _checked(patterns: str | Sequence[str], graph: Graph) -> tuple[str, ...]:
    """Patterns of `exclude`, each of which matches a layer."""
    patterns = check_strings("exclude", patterns, "layer-name patterns")
    names = {name for node in graph.nodes for name in path_names(node.path)}
    for node in graph.nodes:
        if has_weights(node.operation):
            names |= {layer.name for layer in node.operation._flatten_layers()}
    check_patterns("exclude", patterns, names)
    return patterns


def _walk(graph: Graph, flow: Flow) -> dict[int, str]:
    """Let labels flow; return the layers with a call that no rule covers, with why."""
    known: dict[int, Channels] = {}
    uncovered: dict[int, str] = {}
    for tensor in graph.inputs:
        labels = flow.fresh(1).reshape((1,) * len(tensor.shape))
        flow.pin(labels, "tied to an input of the model")
        known[id(tensor)] = Channels(labels, unknown(labels.ndim))
    for node in graph.nodes:
        inputs = [known[id(tensor)] for tensor in node.inputs]
        for mask in node.all_masks:
            flow.pin(known[id(mask)].labels, f"read by '{node.path}' as a mask")
        rule = rule_for(node.operation)
        try:
            outputs = rule.label(node, flow, inputs)
        except NoRule as error:
            uncovered[id(node.operation)] = (
                f"is called in a way without a rule: {error}"
            )
            rule = Barrier(str(error))
            outputs = rule.label(node, flow, inputs)
        if isinstance(rule, Barrier):
            flow.opaque(node, rule.reason or node.reason)
        known |= {
            id(t): channels for t, channels in zip(node.outputs, outputs, strict=True)
        }
    for tensor in graph.outputs:
        flow.pin(known[id(tensor)].labels, "an output of the model")
    flow.settle()
    return uncovered


def _collect(flow: Flow) -> Analysis:
    """Number the units that are free, and group them by where they sit."""
    components = flow.components()
    pinned = flow.pinned(components)
    written = np.zeros(flow.count, bool)
    for labeled in flow.variables.values():
        if labeled.role == "kernel":
            labels = labeled.labels[labeled.labels >= 0]
            written[components[labels]] = True
    free = np.flatnonzero(
        (components == np.arange(flow.count))
        & written
        & ~np.isin(np.arange(flow.count), list(pinned))
    )
    numbers = np.full(flow.count + 1, NO_UNIT)  # the last entry serves NO_LABEL
    numbers[free] = np.arange(len(free))
    unit_of = np.append(numbers[components], NO_UNIT)

    members = []
    for labeled in [*flow.variables.values(), *flow.inputs.values()]:
        units = unit_of[labeled.labels]
        if (units != NO_UNIT).any():
            members.append(
                Member(
                    labeled.layer,
                    labeled.variable,
                    labeled.axis,
                    labeled.role,
                    units,
                    labeled.path,
                )
            )
    return Analysis(
        unit_count=len(free),
        groups=_groups(members, len(free)),
        members=tuple(members),
        pins=_pins(flow, components, pinned),
        filters={name: len(labels) for name, labels in flow.filters_of.items()},
    )


def _groups(members: list[Member], count: int) -> tuple[Group, ...]:
    """Units that occur in the same variables form a group."""
    inside = [member.units[member.units != NO_UNIT] for member in members]
    # Every member parts what lies in it from what does not, in time linear in its size.
    which, total = np.zeros(count, np.int64), 1
    for units in inside:
        before, after = np.unique(which[units], return_inverse=True)
        which[units] = total + after
        total += len(before)
    _, firsts, which = np.unique(which, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(firsts))  # groups in the order of their first units
    which = rank[which]
    contents: list[list[Member]] = [[] for _ in firsts]
    for member, units in zip(members, inside, strict=True):
        for group in np.unique(which[units]):
            contents[group].append(member)
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which))[:-1]) if count else []
    names: dict[str, int] = {}
    return tuple(
        Group(_group_name(members, names), units, tuple(members))
        for units, members in zip(parts, contents, strict=True)
    )


def _group_name(members: list[Member], used: dict[str, int]) -> str:
    """The first layer with filters; with a number if that name is `used`."""
    name = next((m.path for m in members if m.role == "kernel"), "")
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}#{used[name]}"


def _pins(flow: Flow, components: Array, pinned: dict[int, str]) -> tuple[Pin, ...]:
    pins = []
    for name, labels in flow.filters_of.items():
        reasons: dict[str, int] = {}
        for root in components[labels]:
            if int(root) in pinned:
                reason = pinned[int(root)]
                reasons[reason] = reasons.get(reason, 0) + 1
        pins += [Pin(name, count, reason) for reason, count in reasons.items()]
    for name, reason in flow.opaque_layers.items():
        if name not in flow.filters_of:
            pins.append(Pin(name, 0, reason))
    return tuple(pins)
