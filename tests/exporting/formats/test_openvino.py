import pytest

from pgmpf_tf.exporting import export
from tests.exporting.formats.test_registry import several

openvino = pytest.importorskip("openvino")


def test_order_and_names_are_the_model_s(tmp_path):
    report = export(several(), tmp_path, "openvino", verbose=False)
    folder = report["openvino"].path
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.xml"]
    model = openvino.Core().read_model(folder / "model.xml")
    assert [port.names for port in model.inputs] == [{"left"}, {"b_right"}]
    assert [port.names for port in model.outputs] == [{"scores"}, {"box"}]
