"""Layers whose every output channel is a weighted sum over input channels."""

from __future__ import annotations

import numpy as np

from pgmpf_tf.channels.flow import Channels
from pgmpf_tf.rules.base import (
    Call,
    Channelwise,
    NoRule,
    channel_axis,
    evaluate,
    supposed_reads,
    values_of,
)
from pgmpf_tf.rules.elementwise import pointwise


class Mixing(Channelwise):
    """Convolutions and dense layers.

    Args:
        units: the configuration entry that holds the number of filters.
        kernel: the attribute that holds the kernel.
        axis_in, axis_out: the kernel's axes of input channels and filters.
    """

    def __init__(
        self, units: str, kernel: str = "_kernel", axis_in: int = -2, axis_out: int = -1
    ):
        self.units, self.kernel = units, kernel
        self.axis_in, self.axis_out = axis_in, axis_out

    def axes(self, node):
        axis = channel_axis(node.operation) if self.units == "filters" else -1
        return axis % len(node.inputs[0].shape), axis % len(node.outputs[0].shape)

    def groups(self, layer) -> int:
        return getattr(layer, "groups", 1)

    def kernel_of(self, layer):
        if getattr(layer, "lora_enabled", False):
            raise NoRule("it has LoRA weights")
        if getattr(layer, "quantization_mode", None) is not None:
            raise NoRule("its weights are quantized")
        return getattr(layer, self.kernel)

    def width(self, node):
        layer = node.operation
        return self.kernel_of(layer).shape[self.axis_in] * self.groups(layer)

    def label_vector(self, node, flow, labels, pruned):
        layer = node.operation
        kernel = self.kernel_of(layer)
        groups = self.groups(layer)
        flow.read(Channels(labels, pruned), f"'{layer.name}'")
        flow.feed(kernel, labels)
        out = flow.filters(layer, kernel, self.axis_out)
        if layer.bias is not None:
            flow.member(layer, layer.bias, -1, "bias", out)
        if groups > 1:
            self._tie_groups(flow, labels, out, groups)
        try:
            silent = evaluate(pointwise(layer.activation), np.zeros(1))[0]
        except NoRule as error:
            flow.pin(out, str(error))
            silent = np.nan
        return out, np.full(out.shape, silent)

    @staticmethod
    def _tie_groups(flow, labels, out, groups):
        """Groups stay equally wide, or go as wholes where that is the finer choice."""
        ins, outs = labels.reshape(groups, -1), out.reshape(groups, -1)
        if groups >= ins.shape[1]:
            flow.tie(ins, ins[:, :1])
            flow.tie(outs, outs[:, :1])
            flow.tie(ins[:, :1], outs[:, :1])
        else:
            flow.tie(ins, ins[:1])
            flow.tie(outs, outs[:1])

    def reads(self, node) -> np.ndarray:
        """bool, (inputs per group, groups, filters per group): a weight is not zero."""
        if "reads" not in node.memo:
            layer = node.operation
            kernel = self.kernel_of(layer)
            node.memo["reads"] = supposed_reads(
                layer, kernel, lambda: self.matrix(node)
            )
        return node.memo["reads"]

    def matrix(self, node) -> np.ndarray:
        """`reads`, from the weights as they are."""
        kernel = values_of(self.kernel_of(node.operation))
        kernel = np.moveaxis(kernel, (self.axis_in, self.axis_out), (-2, -1))
        matrix = (kernel != 0).any(axis=tuple(range(kernel.ndim - 2)))
        return matrix.reshape(matrix.shape[0], self.groups(node.operation), -1)

    def constant_vector(self, node, values):
        layer, reads = node.operation, self.reads(node)
        alive = ~(values == 0).reshape(reads.shape[1], -1)
        fed = np.einsum("gi,igo->go", alive, reads, dtype=bool).ravel()
        if fed.all():
            return np.full(fed.shape, np.nan)
        bias = np.zeros(fed.shape) if layer.bias is None else values_of(layer.bias)
        constant = np.where(fed, np.nan, bias.astype("float64"))
        try:
            return evaluate(pointwise(layer.activation), constant)
        except NoRule:
            return np.full(fed.shape, np.nan)

    def _whole(self, node):
        """An activation across channels needs all of them."""
        try:
            pointwise(node.operation.activation)
        except NoRule:
            return True
        return False

    def need_vector(self, node, needed, values):
        reads = self.reads(node)
        needed = self._filters(node, needed).reshape(reads.shape[1:])
        alive = ~(values == 0).reshape(reads.shape[1], -1)
        used = np.einsum("go,igo->gi", needed, reads, dtype=bool) & alive
        return _level(used, needed.any(axis=1)).ravel()

    def _filters(self, node, needed):
        if self._whole(node):
            return np.ones_like(needed)
        groups = needed.reshape(self.groups(node.operation), -1)
        return _level(groups, groups.any(axis=1)).ravel()

    def layout_vector(self, node, kept, needed, read):
        groups, out = self.groups(node.operation), self._filters(node, needed)
        if groups > 1:
            alive = out.reshape(groups, -1).any(axis=1)
            kept = _level(read.reshape(groups, -1), alive).ravel()
        return kept, out

    def rebuild_vector(self, node, kept_in, kept_out):
        layer = node.operation
        kernel = values_of(self.kernel_of(layer))
        groups = self.groups(layer)
        config = {self.units: int(kept_out.sum())}
        if groups > 1:
            ins, outs = kept_in.reshape(groups, -1), kept_out.reshape(groups, -1)
            pieces = np.split(kernel, groups, axis=self.axis_out)
            kernel = np.concatenate(
                [
                    self._cut(piece, chosen_in, chosen_out)
                    for piece, chosen_in, chosen_out in zip(
                        pieces, ins, outs, strict=True
                    )
                    if chosen_out.any()
                ],
                axis=self.axis_out,
            )
            config["groups"] = int(outs.any(axis=1).sum())
        else:
            kernel = self._cut(kernel, kept_in, kept_out)
        weights = {self.kernel: kernel}
        if layer.bias is not None:
            weights["bias"] = values_of(layer.bias)[..., kept_out]
        return Call(config=config, weights=weights)

    def _cut(self, kernel, kept_in, kept_out):
        if not kept_in.all():
            kernel = np.compress(kept_in, kernel, axis=self.axis_in)
        if not kept_out.all():
            kernel = np.compress(kept_out, kernel, axis=self.axis_out)
        return kernel


def _level(chosen: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Choose as many in every living group (row) as in the fullest, none elsewhere."""
    if len(chosen) == 1:
        return chosen
    count = max(1, int(chosen[alive].sum(axis=1).max(initial=0)))
    order = np.argsort(~chosen, axis=1, kind="stable")
    result = np.zeros_like(chosen)
    np.put_along_axis(result, order[:, :count], True, axis=1)
    return result & alive[:, None]


class SeparableConv(Mixing):
    """A depthwise convolution, then a pointwise one, without anything between."""

    def __init__(self):
        super().__init__("filters", "pointwise_kernel")

    def width(self, node):
        return node.operation.depthwise_kernel.shape[-2]

    def matrix(self, node):
        depthwise = values_of(node.operation.depthwise_kernel)
        pointwise_kernel = values_of(node.operation.pointwise_kernel)
        used = depthwise.any(axis=tuple(range(depthwise.ndim - 2)))  # (in, times)
        matrix = pointwise_kernel.reshape(*used.shape, -1) != 0
        return (matrix & used[..., None]).any(axis=1)[:, None]

    def rebuild_vector(self, node, kept_in, kept_out):
        layer = node.operation
        depthwise = values_of(layer.depthwise_kernel)[..., kept_in, :]
        rows = np.repeat(kept_in, layer.depth_multiplier)
        weights = {
            "depthwise_kernel": depthwise,
            "pointwise_kernel": self._cut(
                values_of(layer.pointwise_kernel), rows, kept_out
            ),
        }
        if layer.bias is not None:
            weights["bias"] = values_of(layer.bias)[kept_out]
        return Call(config={"filters": int(kept_out.sum())}, weights=weights)


class EinsumDense(Mixing):
    """`EinsumDense` that multiplies the last axis by a plain matrix."""

    def __init__(self):
        super().__init__("output_shape")

    def axes(self, node):
        layer = node.operation
        operands, result = layer.equation.split("->")
        source, kernel = operands.split(",")
        plain = (
            len(kernel) == 2
            and source[-1] == kernel[0]
            and result == source[:-1] + kernel[1]
            and (layer.bias is None or len(layer.bias.shape) == 1)
        )
        if not plain:
            raise NoRule(f"its equation {layer.equation} is not a plain matrix product")
        return len(node.inputs[0].shape) - 1, len(node.outputs[0].shape) - 1

    def rebuild_vector(self, node, kept_in, kept_out):
        call = super().rebuild_vector(node, kept_in, kept_out)
        shape = node.operation.get_config()["output_shape"]
        outer = [] if isinstance(shape, int) else list(shape[:-1])
        call.config["output_shape"] = (*outer, call.config["output_shape"])
        return call
