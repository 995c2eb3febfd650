"""The formats that `export` knows, by name."""

from __future__ import annotations

from pgmpf_tf.exporting.formats.base import Format
from pgmpf_tf.exporting.formats.keras_file import KerasFile
from pgmpf_tf.exporting.formats.onnx import Onnx
from pgmpf_tf.exporting.formats.openvino import OpenVino
from pgmpf_tf.exporting.formats.saved_model import SavedModel
from pgmpf_tf.exporting.formats.tflite import TFLite
from pgmpf_tf.exporting.formats.torch_program import TorchProgram

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        SavedModel(),
        TFLite(),
        KerasFile(),
        Onnx(),
        OpenVino(),
        TorchProgram(),
    )
}
