"""OpenVINO's intermediate representation: for Intel's processors and accelerators."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature


class OpenVino(Format):
    """A folder with `model.xml` and `model.bin`, run on the processor."""

    name = "openvino"
    file = "openvino"
    packages = ("openvino", "tensorflow")
    extra = "openvino"

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Converts the model.

        Raises:
            ValueError: an operation of the model has no counterpart in OpenVINO.
        """
        import openvino

        path.mkdir()
        file = path / "model.xml"
        try:
            signature.export(file, "openvino")
        except Exception as error:  # converters have no type of their own for this
            raise ValueError(
                "`model` must consist of operations that OpenVINO has. "
                f"{received('model', signature.model.name)} ({error})"
            ) from error
        model = openvino.Core().read_model(file)
        # Exporters sort outputs by name, and leave them the names of operations too.
        ports = [model.output(name) for name in signature.outputs]
        for name, port in zip(signature.outputs, ports, strict=True):
            port.get_tensor().set_names({name})
        ordered = openvino.Model(
            [port.get_node() for port in ports],
            model.get_parameters(),
            model.get_name(),
        )
        openvino.save_model(ordered, path / "ordered.xml", compress_to_fp16=False)
        del model
        for suffix in ("xml", "bin"):
            (path / f"ordered.{suffix}").replace(path / f"model.{suffix}")

    def load(self, path: Path) -> Runner:
        """Loads the folder with OpenVINO, for one thread."""
        import openvino

        # By default it may compute in half precision, and does on some processors.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        compiled = openvino.Core().compile_model(path / "model.xml", "CPU", options)

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            results = compiled({**arrays})
            return {port.any_name: array for port, array in results.items()}

        return run
