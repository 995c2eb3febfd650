"""`.pt2` files: exported programs for PyTorch, written on Keras' PyTorch backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from pgmpf_tf._checks import received
from pgmpf_tf.exporting.formats.base import Format, Precision
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature

_NAMES = "inputs.txt"


class TorchProgram(Format):
    """A program of ATen operations, by Keras' own exporter."""

    name = "torch"
    file = "model.pt2"
    packages = ("torch",)
    extra = "torch"
    needs_tensorflow = False

    def check_installed(self) -> None:
        """Raises ImportError, with what to do, on another backend too."""
        super().check_installed()
        if keras.backend.backend() != "torch":
            raise ImportError(
                "The format 'torch' is written on Keras' PyTorch backend: set the "
                "environment variable KERAS_BACKEND to torch and load the model there. "
                f"{received('KERAS_BACKEND', keras.backend.backend())}"
            )

    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Exports the model; the batch may vary if the signature's does.

        Raises:
            ValueError: PyTorch cannot trace an operation of the model.
        """
        import torch

        shapes: Any = None
        if signature.batch_size is None:
            batch = torch.export.Dim("batch")
            shapes = [([{0: batch} for _ in signature.inputs],)]
        try:
            signature.export(path, "torch", dynamic_shapes=shapes)
        except Exception as error:  # whatever the tracer raises
            raise ValueError(
                "`model` must consist of operations that torch.export can trace. "
                f"{received('model', signature.model.name)} ({error})"
            ) from error
        # What a program calls its inputs is up to the tracer: the names go along.
        names = "\n".join(port.name for port in signature.inputs)
        program = torch.export.load(path)
        torch.export.save(program, path, extra_files={_NAMES: names})

    def load(self, path: Path) -> Runner:
        """Loads the program, for the processor."""
        import torch

        files = {_NAMES: ""}
        module = torch.export.load(path, extra_files=files).module()
        names = files[_NAMES].split("\n")

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            with torch.no_grad():
                results = module([torch.from_numpy(arrays[name]) for name in names])
            return {name: tensor.numpy() for name, tensor in results.items()}

        return run
