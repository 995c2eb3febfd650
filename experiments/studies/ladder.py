r"""Accuracy, size and latency of one trained network, from dense float32 to small int8.

    python -m experiments.studies.ladder --run_dir=runs/fashion \\
        --output=experiments/results

Takes the dense and the compacted network of a finished run of experiments.train,
exports each rung, and tests the files that were written on all test images. The last
rung trains for some epochs as if it were int8 already (tfmot).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import rich
from absl import flags
from rich.table import Table

from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies.quantization import climb
from pgmpf_tf._files import write_text


def define_flags() -> None:
    """The run to take, and where to write."""
    flags.DEFINE_string("run_dir", None, "Folder of a finished run.", required=True)
    flags.DEFINE_string("output", None, "Directory for ladder.json; or none.")
    flags.DEFINE_integer(
        "qat_epochs", 2, "Epochs of quantization-aware training.", lower_bound=1
    )


def main(_: list[str]) -> None:
    """Measures the ladder and prints it."""
    run = flags.FLAGS.run_dir
    table = Table(title=f"{run}: TFLite files, tested on all test images")
    for heading in ("network", "precision", "accuracy", "bytes", "latency"):
        table.add_column(heading)
    rungs = []
    for rung in climb(Path(run), flags.FLAGS.qat_epochs):
        rungs.append(asdict(rung))
        cells = f"{rung.accuracy:.2%}", f"{rung.bytes:,}", f"{rung.latency_ms:.3g} ms"
        table.add_row(rung.network, rung.precision, *cells)
        rich.print(" ".join((rung.network, rung.precision, *cells)))
    rich.print(table)
    if flags.FLAGS.output:
        record = {"environment": evaluation.environment(), "rungs": rungs}
        text = json.dumps(record, indent=2) + "\n"
        write_text(Path(flags.FLAGS.output) / "ladder.json", text)


if __name__ == "__main__":
    launch(main, define_flags)
