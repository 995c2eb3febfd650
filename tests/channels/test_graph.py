"""What `trace` sees of nested, shared and subclassed models."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from pgmpf_tf.channels.analysis import analyze
from pgmpf_tf.channels.graph import functional_of, trace


def head(width=4):
    return keras.Sequential([keras.Input((6, 6, width)), layers.Conv2D(width, 1)])


def names(model):
    return [node.operation.name for node in trace(model).nodes]


def test_nested_models_are_inlined_once_per_call():
    inner = head()
    x = keras.Input((6, 6, 4))
    model = keras.Model(x, inner(layers.ReLU()(inner(x))))
    graph = trace(model)
    conv = inner.layers[0]
    assert [node.operation for node in graph.nodes].count(conv) == 2
    assert graph.nodes[0].outputs[0] is graph.nodes[1].inputs[0]
    assert len({id(t) for node in graph.nodes for t in node.outputs}) == 3


def test_the_training_argument_reaches_inner_layers():
    inner = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    x = keras.Input((4,))
    (node,) = trace(keras.Model(x, inner(x, training=False))).nodes
    assert node.kwargs["training"] is False
    (node,) = trace(keras.Model(x, inner(x))).nodes
    assert node.kwargs.get("training") is None


def test_shapes_are_those_of_the_call():
    inner = keras.Sequential([keras.Input((None, None, 4)), layers.Conv2D(2, 3)])
    x = keras.Input((6, 6, 4))
    (node,) = trace(keras.Model(x, inner(x))).nodes
    assert node.outputs[0].shape == (None, 4, 4, 2)


def test_a_nested_model_of_another_dtype_gets_a_cast():
    inner = head()
    x = keras.Input((6, 6, 4), dtype="float16")
    kinds = [type(n.operation).__name__ for n in trace(keras.Model(x, inner(x))).nodes]
    assert kinds == ["Cast", "Conv2D"]


class Traceable(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = layers.Conv2D(4, 3), layers.BatchNormalization()

    def call(self, x, training=False):
        return ops.relu(self.norm(self.conv(x), training=training)) * 2


class Stubborn(Traceable):
    def call(self, x):
        import tensorflow as tf

        return tf.nn.relu(self.conv(x))


def test_a_subclassed_model_is_traced():
    model = Traceable()
    model(np.zeros((1, 6, 6, 3), "float32"))
    kinds = [type(node.operation).__name__ for node in trace(model).nodes]
    assert kinds == ["Conv2D", "BatchNormalization", "Relu", "Multiply"]


class WithSizes(Traceable):
    def build(self, input_shape=(None, 6, 6, 3)):
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))


def test_a_model_that_knows_its_own_sizes_is_traced():
    model = WithSizes()
    model.build()
    graph = trace(model)
    assert graph.inputs[0].shape == (None, 6, 6, 3)
    assert len(graph.nodes) == 4


class Silent(Traceable):
    def build(self):
        self.conv.build((None, 6, 6, 3))
        self.norm.build((None, 4, 4, 4))


def test_a_model_built_for_sizes_that_nobody_knows_is_not_called_unbuilt():
    model = Silent()
    model.build()
    with pytest.raises(ValueError, match="built for shapes that it does not tell"):
        functional_of(model)


def test_what_cannot_be_traced_is_one_operation_with_a_reason():
    model = Stubborn()
    model(np.zeros((1, 6, 6, 3), "float32"))
    (node,) = trace(model).nodes
    assert node.operation is model
    assert "cannot be traced" in node.reason


@pytest.mark.parametrize("model", [Traceable(), keras.Sequential([layers.Dense(3)])])
def test_an_unbuilt_model_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be built"):
        functional_of(model)


def test_only_models_are_taken():
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        trace(layers.Dense(3))


def test_the_context_of_a_call_goes_to_layers_that_take_it():
    """As after transfer learning; ReLU takes none, and is evaluated by its `call`."""
    image = keras.Input((6, 6, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3)(image)))
    base = keras.Model(image, layers.Dropout(0.5)(x))
    scores = layers.Dense(2)(layers.Flatten()(base(image, training=False)))
    model = keras.Model(image, scores)
    given = {type(n.operation).__name__: n.kwargs for n in trace(model).nodes}
    assert given["Dropout"]["training"] is False
    assert given["BatchNormalization"]["training"] is False
    assert "training" not in given["ReLU"]
    assert [len(group.units) for group in analyze(model).groups] == [8]
