"""Quantization-aware training: tfmot, and the legacy `tf_keras` that it works on."""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
from keras import tree

from pgmpf_tf._checks import received
from pgmpf_tf.channels.graph import functional_of, trace
from pgmpf_tf.channels.nodes import Node
from pgmpf_tf.exporting import samples, verification
from pgmpf_tf.exporting.signature import Signature, is_legacy
from pgmpf_tf.training.model import PrunedModel
from pgmpf_tf.training.shrinking import compact

TOLERANCE = 1e-4


def to_tf_keras(model: keras.Model) -> Any:
    """The same network as a legacy `tf_keras` model, with equal outputs.

    Args:
        model: a wrapped model (which is compacted first) or any built Keras model,
            of layers that tfmot can quantize.

    Returns:
        A functional `tf_keras.Model` of layers with the same names and weights. It is
        not compiled.

    Raises:
        TypeError: not a Keras model.
        ValueError: the model is not built, or has a layer that tfmot cannot quantize;
            the message names it.
        ImportError: tfmot or `tf_keras` is not installed.
        VerificationError: the outputs differ.
    """
    functional_of(model)  # before packages that take long to import
    tfmot, tf_keras = _import_legacy()
    if isinstance(model, PrunedModel):
        model = compact(model)
    graph = trace(model)
    translate = _Translator(tf_keras, _registry(tfmot).supports)
    tensors = {
        id(tensor): tf_keras.Input(
            tensor.shape[1:], tensor.shape[0], dtype=tensor.dtype, name=key.name
        )
        for tensor, key in zip(graph.inputs, graph.function.inputs, strict=True)
    }
    inputs = list(tensors.values())
    producers: dict[int, keras.Operation] = {}
    for node in graph.nodes:
        value = [tensors[id(x)] for x in node.inputs]
        value = value if len(value) > 1 else value[0]
        for layer in translate(node, producers):
            value = layer(value)
        for tensor in node.outputs:
            tensors[id(tensor)] = value
            producers[id(tensor)] = node.operation
    outputs = [tensors[id(x)] for x in graph.outputs]
    structure = graph.function.output
    legacy = tf_keras.Model(
        inputs, tree.pack_sequence_as(structure, outputs), name=model.name
    )
    translate.load_weights()
    _check_equal(model, legacy)
    return legacy


def quantize_aware(model: Any) -> Any:
    """A model that trains as if it were int8 already, by tfmot.

    ```python
    aware = pgmpf_tf.quantize_aware(small)
    aware.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    aware.fit(images, labels, epochs=2)
    pgmpf_tf.export(aware, "artifacts/", "tflite", quantize="int8")
    ```

    Args:
        model: what `to_tf_keras` takes or returns.

    Returns:
        A `tf_keras` model, ready to compile (with names or `tf_keras` objects, not
        with those of Keras 3) and to fit. It starts from the model's weights, and
        shares none of them.

    Raises:
        TypeError: not a model.
        ValueError: tfmot cannot quantize it; the message names the layer.
        ImportError: tfmot or `tf_keras` is not installed.
    """
    if not is_legacy(model):
        functional_of(model)
    tfmot, _ = _import_legacy()
    legacy = model if is_legacy(model) else to_tf_keras(model)
    try:
        # Without tfmot's prefix for names, the outputs keep theirs.
        return tfmot.quantization.keras.quantize_model(
            legacy, quantized_layer_name_prefix=""
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`model` must be one that tfmot can quantize. "
            f"{received('model', legacy.name)}; tfmot says: {error}"
        ) from error


def _import_legacy() -> tuple[ModuleType, ModuleType]:
    """Imports tfmot and `tf_keras`, without tfmot's effects on the rest of the process.

    tfmot sets an environment variable under which TensorFlow's own name for Keras
    means the legacy one, here and in child processes. Resolved before, that name keeps
    its meaning here; and the variable is put back.
    """
    variable = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(variable)
    try:
        import tensorflow as tf

        operator.attrgetter("keras.layers")(tf)
        import tensorflow_model_optimization as tfmot
        import tf_keras
    except ImportError as error:
        raise ImportError(
            "Quantization-aware training needs tensorflow-model-optimization and "
            "tf_keras. Install them with: pip install 'pgmpf_tf[tfmot]'"
        ) from error
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
    return tfmot, tf_keras


def _registry(tfmot: ModuleType) -> Any:
    """What tfmot knows of the layers it can quantize."""
    scheme = tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()
    return scheme.get_quantize_registry()


class _Translator:
    """Finds the legacy layers that do what one call of a Keras 3 operation does."""

    def __init__(self, tf_keras: ModuleType, supports: Callable[[Any], bool]):
        self.tf_keras = tf_keras
        self.supports = supports
        self.layers: dict[int, tuple[keras.Operation, list[Any]]] = {}

    def __call__(self, node: Node, producers: dict[int, keras.Operation]) -> list[Any]:
        """The layers to call, one after another.

        Raises:
            ValueError: there are none that tfmot can quantize.
        """
        operation = node.operation
        if id(operation) not in self.layers:
            layers = self._translate(node)
            if layers is None or not all(
                self.supports(layer)
                or self._is_transformed(layer, producers.get(id(node.inputs[0])))
                for layer in layers
            ):
                raise ValueError(
                    "`model` must consist of layers that tfmot can quantize. Received: "
                    f"a model with {operation.name!r} ({type(operation).__name__})"
                )
            self.layers[id(operation)] = operation, layers
        return self.layers[id(operation)][1]

    def load_weights(self) -> None:
        """Hands the weights over; the layers are built by now."""
        for operation, layers in self.layers.values():
            if getattr(operation, "weights", ()):
                layers[0].set_weights(operation.get_weights())

    def _translate(self, node: Node) -> list[Any] | None:
        operation, layers = node.operation, self.tf_keras.layers
        kind = type(operation).__name__
        if isinstance(operation, keras.layers.Layer):
            known = type(operation) is getattr(keras.layers, kind, None)
            legacy = getattr(layers, kind, None) if known else None
            return legacy and [_same_layer(legacy, operation)]
        if kind == "GetItem":
            return _subsampling(layers, node)
        if kind == "Pad":
            return _padding(layers, node)
        if kind in ("Add", "Concatenate") and _only_tensors(node):
            axis = {"axis": operation.axis} if kind == "Concatenate" else {}
            return [getattr(layers, kind)(name=operation.name, **axis)]
        if kind in ("Relu", "Relu6"):
            limit = 6.0 if kind == "Relu6" else None
            return [layers.ReLU(limit, name=operation.name)]
        return None

    def _is_transformed(self, layer: Any, producer: keras.Operation | None) -> bool:
        """Whether tfmot first makes it something else that it then quantizes.

        It splits separable convolutions, and folds a BatchNormalization into the layer
        before it.
        """
        legacy = self.tf_keras.layers
        if isinstance(layer, (legacy.SeparableConv1D, legacy.SeparableConv2D)):
            return True
        folds = (
            keras.layers.Conv2D,
            keras.layers.DepthwiseConv2D,
            keras.layers.SeparableConv2D,
            keras.layers.Dense,
        )
        norm = isinstance(layer, legacy.BatchNormalization)
        return norm and type(producer) in folds


def _same_layer(legacy: Any, layer: keras.layers.Layer) -> Any:
    """The legacy layer with the settings that both kinds have."""
    config = layer.get_config()
    known = {*inspect.signature(legacy.__init__).parameters, "name", "trainable"}
    settings = {
        key: value
        for key, value in config.items()
        if key in known and not key.endswith("_initializer")
    }
    if "alpha" in known and "negative_slope" in config:
        settings["alpha"] = config["negative_slope"]
    return legacy(**settings)


def _only_tensors(node: Node) -> bool:
    """Whether every operand is a tensor of the graph, and none a constant."""
    operands = node.args[0] if len(node.args) == 1 else node.args
    return len(operands) == len(node.inputs)


def _subsampling(layers: ModuleType, node: Node) -> list[Any] | None:
    """`x[:, ::r, ::c, :]` as a pooling of single pixels."""
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    shape = node.inputs[0].shape
    sizes = [size for size in shape[1:] if size is not None]
    if not isinstance(key, (tuple, list)) or len(shape) != 4 or len(sizes) != 3:
        return None
    key = [*key, *[slice(None)] * (4 - len(key))]
    if not all(isinstance(part, slice) for part in key):
        return None
    taken = [range(size)[part] for part, size in zip(key[1:], sizes, strict=True)]
    ways = [range(0, size, r.step) for r, size in zip(taken, sizes, strict=True)]
    if key[0] != slice(None) or taken != ways or taken[2].step != 1:
        return None
    strides = (taken[0].step, taken[1].step)
    return [layers.MaxPooling2D(1, strides=strides, name=node.operation.name)]


def _padding(layers: ModuleType, node: Node) -> list[Any] | None:
    """Zeros around rows, columns and channels as paddings of two axes each."""
    operation, value = node.operation, node.kwargs.get("constant_values")
    widths = [tuple(pair) for pair in operation.pad_width]
    if operation.mode != "constant" or value or len(node.args) > 1 or len(widths) != 4:
        return None
    if any(widths[0]):
        return None
    found = [
        layers.ZeroPadding2D((widths[1], widths[2]), name=operation.name),
        # "Channels first" is how it pads the last axis.
        layers.ZeroPadding2D(
            ((0, 0), widths[3]),
            data_format="channels_first",
            name=f"{operation.name}_channels",
        ),
    ]
    wanted = [any(widths[1]) or any(widths[2]), any(widths[3])]
    return [layer for layer, want in zip(found, wanted, strict=True) if want]


def _check_equal(model: keras.Model, legacy: Any) -> None:
    """Raises VerificationError if the outputs differ on random samples."""
    ours, theirs = Signature.of(model), Signature.of(legacy)
    inputs = samples.draw(ours.inputs, ours.batch_size or 2)
    wanted, got = ours.run(inputs), theirs.run(inputs)
    errors = verification.measure(dict(zip(wanted, got.values(), strict=True)), wanted)
    verification.check("the tf_keras model", errors, verification.Bounds(TOLERANCE))
