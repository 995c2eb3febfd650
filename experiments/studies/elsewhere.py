"""A process without pgmpf_tf that loads files, and says how far they are off."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import keras
import numpy as np
from keras import tree

from experiments.networks import hub

_PROGRAM = """
import importlib, json, sys
import keras, numpy as np
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    try:
        path = line.strip()
        model = keras.saving.load_model(path + "/model.keras", compile=False)
        data = np.load(path + "/data.npz")
        flat = [data[f"input_{i}"] for i in range(len(model.inputs))]
        inputs = keras.tree.pack_sequence_as(model._inputs_struct, flat)
        found = keras.tree.flatten(model(inputs, training=False))
        worst = 0.0
        for place, y in enumerate(found):
            wanted = data[f"output_{place}"]
            apart = np.abs(np.asarray(y, "float64") - wanted).max(initial=0)
            worst = max(worst, float(apart / max(np.abs(wanted).max(initial=0), 1e-9)))
        assert not any(name.startswith("pgmpf_tf") for name in sys.modules)
        answer = worst
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print("ANSWER " + json.dumps(answer), flush=True)
    keras.utils.clear_session()
"""


class Elsewhere:
    """Other processes, one for each set of modules that a file needs.

    They start when they are asked first, and end with the `with` block.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[str, ...], subprocess.Popen[str]] = {}

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running.values():
            process.communicate()

    def deviation(self, model: keras.Model) -> float:
        """Saves a model, and has it loaded and run on random inputs there.

        Returns:
            The largest difference, over the largest entry of each output.

        Raises:
            RuntimeError: the file does not load, or does not run.
        """
        inputs = hub.samples(model, 3, seed=1)
        outputs = tree.flatten(model(inputs, training=False))
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.keras")
            arrays = {f"input_{i}": x for i, x in enumerate(tree.flatten(inputs))}
            arrays |= {f"output_{i}": np.asarray(y) for i, y in enumerate(outputs)}
            np.savez(Path(folder) / "data.npz", **arrays)
            return self._answer(folder, _modules_of(model))

    def _answer(self, folder: str, modules: tuple[str, ...]) -> float:
        process = self._process(modules)
        assert process.stdin is not None
        assert process.stdout is not None
        print(folder, file=process.stdin, flush=True)
        for line in process.stdout:
            if line.startswith("ANSWER "):
                answer = json.loads(line.removeprefix("ANSWER "))
                if isinstance(answer, str):
                    raise RuntimeError(answer)
                return float(answer)
        raise RuntimeError("the other process has died")

    def _process(self, modules: tuple[str, ...]) -> subprocess.Popen[str]:
        if modules not in self._running:
            self._running[modules] = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self._running[modules]


def _modules_of(model: keras.Model) -> tuple[str, ...]:
    """The modules with the layers of a model that are not Keras' own."""
    found = {
        type(layer).__module__
        for layer in model._flatten_layers(include_self=False)
        if not type(layer).__module__.startswith("keras.src.")
    }
    # KerasHub is imported as one: its modules import each other in circles.
    roots = {"keras_hub" if m.startswith("keras_hub.") else m for m in found}
    return tuple(sorted(roots))
