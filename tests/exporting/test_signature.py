"""What the inputs and outputs of an exported model are called."""

import keras
import pytest
from keras import layers

from pgmpf_tf.compaction import compact
from pgmpf_tf.exporting import export
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.training.wrapping import wrap
from tests.exporting.networks import images


def nameless():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="stem")(image)
    return keras.Model(image, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))


def two_nameless():
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Concatenate()([layers.Dense(4)(left), layers.Dense(4)(right)])
    return keras.Model([left, right], layers.Dense(2)(x))


def dictionary():
    left, right = keras.Input((4,), name="l"), keras.Input((4,), name="r")
    hidden = layers.Dense(4, "relu", name="hidden")(left)
    x = layers.Dense(3, name="first")(hidden) + layers.Dense(3)(right)
    return keras.Model({"r": right, "l": left}, {"z": x, "a": layers.ReLU()(x)})


@pytest.mark.parametrize("make", [nameless, two_nameless, dictionary])
def test_the_small_network_and_the_file_are_called_as_the_dense_one(make, tmp_path):
    model = make()
    pruned = wrap(model, 0.5)
    pruned.apply_masks()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    wanted = Signature.of(model)
    for other in (compact(pruned), compact(compact(pruned)), loaded):
        signature = Signature.of(other)
        assert [x.name for x in signature.inputs] == [x.name for x in wanted.inputs]
        assert signature.outputs == wanted.outputs


def test_a_model_whose_input_has_no_name_is_exported(tmp_path):
    report = export(nameless(), tmp_path, ["keras", "tflite"], verbose=False)
    assert len(report.artifacts) == 2


def test_data_may_go_by_the_tensor_s_name_and_by_the_layer_s(tmp_path):
    model = nameless()
    (tensor,) = model.inputs
    for name in (tensor.name, model.layers[0].name):
        data = {name: images(4)}
        report = export(
            model, tmp_path, "tflite", verification_data=data, verbose=False
        )
        assert report.samples == 4


def test_names_are_identifiers_and_differ():
    inputs = [keras.Input((2,), name=name) for name in ("a-b", "a b", "1st")]
    signature = Signature.of(keras.Model(inputs, layers.Add()(inputs)))
    assert [x.name for x in signature.inputs] == ["a_b", "a_b_1", "_1st"]
