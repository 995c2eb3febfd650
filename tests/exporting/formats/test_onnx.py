import keras
import pytest

from pgmpf_tf.exporting import export
from tests.exporting.formats.test_registry import several

onnx = pytest.importorskip("onnx")


def shapes(values):
    return {
        value.name: [
            axis.dim_param or axis.dim_value
            for axis in value.type.tensor_type.shape.dim
        ]
        for value in values
    }


@pytest.mark.parametrize("batch", [None, 2])
def test_order_and_shapes_are_the_model_s(tmp_path, batch):
    report = export(several(), tmp_path, "onnx", batch_size=batch, verbose=False)
    graph = onnx.load(report["onnx"].path).graph
    first = batch or "batch"
    inputs, outputs = shapes(graph.input), shapes(graph.output)
    assert inputs == {"left": [first, 5], "b_right": [first, 3]}
    assert [*inputs] == ["left", "b_right"]
    assert outputs == {"scores": [first, 4], "box": [first, 1]}
    assert [*outputs] == ["scores", "box"]


def test_operations_that_onnx_lacks_are_an_error(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.erfinv(inputs))
    with pytest.raises(ValueError, match=r"`model`.*ONNX"):
        export(model, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []
