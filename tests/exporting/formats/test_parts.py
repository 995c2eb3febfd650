"""Small models are timed alone, in turns, as parts of a larger one."""

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting.formats import onnx_parts, tflite_parts
from pgmpf_tf.exporting.formats.onnx_parts import OnnxParts
from pgmpf_tf.exporting.formats.parts import in_turns
from pgmpf_tf.exporting.formats.saved_model_parts import SavedModelParts
from pgmpf_tf.exporting.formats.tflite_parts import TFLiteParts, _split

RUNTIMES = [
    (TFLiteParts, "float32"),
    (TFLiteParts, "int8"),
    (OnnxParts, "float32"),
    (SavedModelParts, "float32"),
]


def convolution(size, width):
    image = keras.Input(batch_shape=(1, size, size, 16))
    x = layers.Conv2D(width, 3, activation="relu", padding="same")(image)
    return keras.Model(image, x, name="any_of_them")


def test_calls_take_turns_and_the_time_of_each_is_its_own():
    costs = {"slow": 3.0, "fast": 0.0625}
    now, order = [0.0], []

    def call(name):
        def run():
            order.append(name)
            now[0] += costs[name]

        return run

    times = in_turns([call("slow"), call("fast")], lambda: now[0], turn_seconds=1.0)
    assert times == [3.0, 0.0625]
    turns = [
        name for name, last in zip(order, [None, *order], strict=False) if name != last
    ]
    # The first turn is for counting.
    assert turns == ["slow", "fast"] * (len(turns) // 2)
    assert len(turns) >= 10
    # Cheap calls are made more often: 16 in a turn, dear ones three, and one that is
    # not timed.
    assert order.count("fast") > 2 * order.count("slow")
    assert order.count("slow") >= 4 * (len(turns) // 2 - 1)


def test_what_happens_in_some_turns_only_does_not_count():
    now, count = [0.0], [0]

    def call():
        count[0] += 1
        now[0] += 100.0 if count[0] % 5 == 0 else 1.0

    (time,) = in_turns([call], lambda: now[0], turn_seconds=1.0)
    assert time == 1.0


def test_where_a_file_lies_in_memory_does_not_count(monkeypatch):
    loaded = []

    def one_is_slow(calls, clock, turn_seconds):
        loaded.append(len(calls))
        return [9.0 if place == 1 else 1.0 + place % 3 for place in range(len(calls))]

    monkeypatch.setattr(tflite_parts, "in_turns", one_is_slow)
    # A third one is loaded by `times` itself.
    models = [convolution(4, 8), convolution(4, 16)]
    assert TFLiteParts("float32", 1).times(models)[0] == [1000.0, 2000.0]
    # Each is loaded several times, of which one was at a place that is no good.
    assert loaded[0] >= 3 * len(models)


@pytest.mark.parametrize(
    ("module", "runtime"), [(tflite_parts, TFLiteParts), (onnx_parts, OnnxParts)]
)
def test_what_a_call_takes_is_no_time_of_a_part(monkeypatch, module, runtime):
    def calls_take_two(calls, clock, turn_seconds):
        loads = 3 if runtime is TFLiteParts else 1
        return [5.0, 6.0, 1.5, 2.0] * loads  # the last one is a call of nothing

    monkeypatch.setattr(module, "in_turns", calls_take_two)
    models = [convolution(4, 8), convolution(4, 16), convolution(4, 32)]
    whole, inside = runtime("float32", 1).times(models[:1], models[1:])
    assert whole == [5000.0]  # one that uses the file has to call it
    assert inside == pytest.approx([4000.0, 1e-6])  # more than nothing: it is run


@pytest.mark.parametrize(("runtime", "precision"), RUNTIMES)
def test_each_model_is_timed_by_itself(runtime, precision):
    image = keras.Input(batch_shape=(1, 8, 8, 16))
    nothing = keras.Model(image, layers.Dropout(0.5)(image))
    # Of one entry: no other index than 0 will do.
    numbers = keras.Input(batch_shape=(1, 64), dtype="int32")
    lookup = keras.Model(numbers, layers.Embedding(1, 4)(numbers))
    models = [convolution(8, 16), nothing, convolution(32, 256), lookup]
    small, none, large, looked_up = runtime(precision, 1).times([], models)[1]
    # 256 times the work: by far enough to be told apart on any machine.
    assert large > 5 * max(small, none, looked_up)
    assert small > 0.0
    if runtime is not SavedModelParts:  # there it is told from calls of nothing
        assert none == 0.0


def test_files_hold_what_comes_from_the_inputs_of_one_model():
    from ai_edge_litert.interpreter import Interpreter

    models = [dense(2), dense(5)]
    files = _split(TFLiteParts("float32", 1)._convert(models), 2)
    for model, content in zip(models, files, strict=True):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (reads,), (makes,) = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        x = np.random.default_rng(0).normal(size=reads["shape"]).astype("float32")
        interpreter.set_tensor(reads["index"], x)
        interpreter.invoke()
        found = interpreter.get_tensor(makes["index"])
        # float32, whose sums are taken in another order
        np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-6)


def dense(width):
    x = keras.Input(batch_shape=(1, width))
    return keras.Model(x, layers.Dense(3 * width, activation="relu")(x))


def joined(size):
    left, right = (keras.Input(batch_shape=(1, size, size, 3)) for _ in range(2))
    x = layers.Conv2D(5, 3, padding="same")(left)
    x = layers.Add()([layers.Conv2D(5, 1)(right), x])
    return keras.Model([left, right], [x, layers.GlobalAveragePooling2D()(x)])


@pytest.mark.parametrize("cut", [False, True])
def test_onnx_files_compute_what_their_models_do(cut):
    """Inside a network ONNX has channels first, and does not move them in a part."""
    onnxruntime = pytest.importorskip("onnxruntime")
    models = [joined(6), dense(4), convolution(4, 8), joined(7)]
    files = OnnxParts("float32", 1)._files(models, cut)
    for model, proto in zip(models, files, strict=True):
        moves = [node for node in proto.graph.node if node.op_type == "Transpose"]
        assert bool(moves) == (not cut and len(model.inputs[0].shape) == 4)
        generator = np.random.default_rng(0)
        arrays = [
            generator.normal(size=x.shape).astype("float32") for x in model.inputs
        ]
        packed = keras.tree.pack_sequence_as(model.input, arrays)
        session = onnxruntime.InferenceSession(proto.SerializeToString())
        feed = {
            port.name: moved(x, port.shape)
            for port, x in zip(session.get_inputs(), arrays, strict=True)
        }
        made = session.run(None, feed)
        for found, wanted in zip(made, keras.tree.flatten(model(packed)), strict=True):
            wanted = moved(np.asarray(wanted), found.shape)
            # float32, whose sums are taken in another order
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def moved(array, shape):
    """With the channels first, if that is the shape."""
    if list(array.shape) == list(shape):
        return array
    found = np.moveaxis(array, -1, 1)
    assert list(found.shape) == list(shape)
    return found


@keras.saving.register_keras_serializable("tests")
class Refusing(layers.Layer):
    def call(self, x):
        import tensorflow as tf

        with tf.control_dependencies([tf.debugging.assert_greater(x, 1e9)]):
            return tf.identity(x)


@pytest.mark.slow
def test_what_tensorflow_does_not_run_is_an_error():
    x = keras.Input(batch_shape=(1, 4))
    model = keras.Model(x, Refusing()(x))
    with pytest.raises(ValueError, match="`model` must consist of operations"):
        SavedModelParts("float32", 1).milliseconds([model])
