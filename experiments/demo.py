"""The whole way on real data in a few minutes on a CPU: `make demo`.

Trains a small residual network on the 1,797 handwritten digits inside scikit-learn,
removes half of the filters of every layer while fine-tuning it, goes on with the small
network alone, exports SavedModel and TFLite, and prints dense beside small.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import rich
from absl import flags

from experiments.run import presentation, settings
from experiments.run import runner as runs
from experiments.run.launching import launch

SETTINGS = settings.resolve(
    "quick",
    dataset="digits",
    model="resnet8",
    rate=0.5,
    dense_epochs=20,
    epochs=20,
    shrink=True,
    batch_size=32,
    learning_rate=0.1,
    prune_learning_rate=0.05,
)


def define_flags() -> None:
    """Where to."""
    flags.DEFINE_string("demo_dir", "runs/demo", "Folder of the demo's files.")


def main(_: list[str]) -> None:
    """Runs the demo; one that was stopped goes on, one that is finished starts anew."""
    directory = Path(flags.FLAGS.demo_dir)
    if (directory / "result.json").is_file():
        shutil.rmtree(directory)
    result = runs.run(SETTINGS, directory)
    rich.print(presentation.table(result))
    rich.print(f"Networks, exports and metrics are in {directory}.")
    rich.print(f"Open {directory / 'report.html'} in a browser to look at the run.")


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
