"""The process that times SavedModels; see `saved_model_parts`.

Usage: python -m pgmpf_tf.exporting.formats.saved_model_times FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from pgmpf_tf.exporting.formats import saved_model_parts as files
from pgmpf_tf.exporting.formats.parts import any_numbers, in_turns
from pgmpf_tf.exporting.writing import REFUSAL, REQUEST

# A call from Python takes about a fifth of that.
_TURN_SECONDS = 5e-3


def main(folder: Path) -> None:
    """Writes into the folder what the calls take, or why that cannot be."""
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    threads: int = request["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    clock = time.process_time if threads == 1 else time.perf_counter
    loaded = tf.saved_model.load(str(folder / files.SAVED_MODEL))
    calls = [
        _call(loaded.signatures[f"part{number}"])
        for number in range(request["endpoints"])
    ]
    try:
        seconds = in_turns(calls, clock, _TURN_SECONDS)
    except tf.errors.OpError as error:
        (folder / REFUSAL).write_text(error.message.splitlines()[0], "utf-8")
    else:
        (folder / files.TIMES).write_text(json.dumps(seconds), "utf-8")


def _call(function: Any) -> Callable[[], object]:
    _, specs = function.structured_input_signature
    tensors = {
        name: tf.constant(any_numbers(spec.shape, spec.dtype.as_numpy_dtype))
        for name, spec in specs.items()
    }
    return lambda: function(**tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
