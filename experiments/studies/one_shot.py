"""One-shot pruning: no training, only new BatchNorm statistics. What is left?

    python -m experiments.studies.one_shot --run_dir=runs/fashion

Prunes the dense network of a finished run of experiments.train by every criterion and
strategy until a budget of multiply-accumulates is met, recalibrates BatchNorm on
training images, compacts, and tests on all test images. Each result is written to
one_shot.json in the run's folder as it is ready, and is not measured again. Then writes
one_shot.md, one_shot.json and one_shot.png into --output.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import matplotlib
import numpy as np
from absl import flags
from rich.progress import track

import pgmpf_tf
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.run.settings import RunSettings
from pgmpf_tf._files import staged, write_text
from pgmpf_tf.scores import criteria

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a backend without a window

FRACTIONS = (0.3, 0.5, 0.7)
STRATEGIES = ("uniform", "global", "sensitivity")
RANDOM_SEEDS = (0, 1, 2)
CALIBRATION_IMAGES = 2048


class Point(NamedTuple):
    """One way to prune."""

    criterion: str
    strategy: str
    fraction: float
    seed: int

    @property
    def key(self) -> str:
        """Its name in files."""
        return "/".join(map(str, self))

    @classmethod
    def of(cls, key: str) -> Point:
        """The inverse of `key`."""
        criterion, strategy, fraction, seed = key.split("/")
        return cls(criterion, strategy, float(fraction), int(seed))


class Experiment:
    """One dense network, and what it is pruned and tested with.

    Args:
        run: folder of a finished run.

    Raises:
        ValueError: the folder holds no finished run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.settings, data, networks = evaluation.finished_run(run)
        self.dense = networks["dense"]
        self.weights = self.dense.get_weights()
        self.test = evaluation.test_set(data, self.settings.batch_size)
        size = self.settings.batch_size
        batches = data.train_batches(size, seed=self.settings.seed, epochs=1)
        taken = batches.take(CALIBRATION_IMAGES // size).as_numpy_iterator()
        self.calibration = tuple(map(np.concatenate, zip(*taken, strict=True)))
        self.macs = pgmpf_tf.profile(self.dense).macs

    def compiled(self) -> keras.Model:
        """The dense network with its own weights, and a loss."""
        self.dense.set_weights(self.weights)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.dense.compile(loss=loss, metrics=["accuracy"])
        return self.dense

    def accuracy(self, model: keras.Model) -> float:
        """On all test images."""
        images, labels = self.test
        outputs = model.predict(images, self.settings.batch_size, verbose=0)
        return evaluation.accuracy(outputs, labels)

    def prune(self, point: Point) -> dict[str, float]:
        """What is left of the network at one point."""
        model, criterion = self.compiled(), point.criterion
        drops = None
        if point.strategy == "sensitivity":
            drops = pgmpf_tf.sensitivity(
                model,
                self.calibration,
                metric="loss",
                criterion=criterion,
                path=self.run / f"sensitivity_{criterion}.json",
            )
        budget = pgmpf_tf.Budget(
            macs=point.fraction, strategy=point.strategy, sensitivity=drops
        )
        scorer = criteria.resolve(criterion).with_data(self.calibration)
        pruned = pgmpf_tf.wrap(model, budget, criterion=scorer, seed=point.seed)
        pruned.apply_masks()
        before = self.accuracy(pgmpf_tf.compact(pruned))
        pgmpf_tf.recalibrate(pruned, self.calibration)
        small = pgmpf_tf.compact(pruned)
        return {
            "accuracy": self.accuracy(small),
            "accuracy_before_recalibration": before,
            "macs_left": pgmpf_tf.profile(small).macs / self.macs,
            "params": pgmpf_tf.profile(small).params,
        }


def points() -> list[Point]:
    """The points of the table."""
    return [
        Point(criterion, strategy, fraction, seed)
        for criterion, strategy, fraction in itertools.product(
            criteria.CRITERIA, STRATEGIES, FRACTIONS
        )
        # Sensitivity to random pruning says nothing of other random filters.
        if (criterion, strategy) != ("random", "sensitivity")
        for seed in (RANDOM_SEEDS if criterion == "random" else (0,))
    ]


def measure(run: Path, wanted: Sequence[Point]) -> dict[str, Any]:
    """The results of a run's network; wanted points that are missing are measured now.

    Args:
        run: folder of a finished run; one_shot.json in it remembers.
        wanted: the points.

    Returns:
        The content of the file.

    Raises:
        ValueError: the folder holds no finished run.
    """
    path = run / "one_shot.json"
    done = json.loads(path.read_text("utf-8")) if path.is_file() else {"points": {}}
    left = [point for point in wanted if point.key not in done["points"]]
    if not left:
        return done
    experiment = Experiment(run)
    done["dense"] = {
        "accuracy": experiment.accuracy(experiment.dense),
        "macs": experiment.macs,
        "settings": experiment.settings.to_json(),
    }
    done["environment"] = evaluation.environment()
    for point in track(left, description="one-shot pruning"):
        done["points"][point.key] = experiment.prune(point)
        write_text(path, json.dumps(done, indent=1) + "\n")
    return done


def summary(
    done: dict[str, Any],
) -> dict[tuple[str, str], dict[float, dict[str, float]]]:
    """Means over seeds, by criterion and strategy, and by fraction."""
    groups: dict[tuple[str, str], dict[float, list[dict[str, float]]]] = {}
    for key, record in done["points"].items():
        point = Point.of(key)
        row = groups.setdefault((point.criterion, point.strategy), {})
        row.setdefault(point.fraction, []).append(record)
    return {
        name: {
            fraction: {k: statistics.mean(r[k] for r in records) for k in records[0]}
            for fraction, records in sorted(row.items())
        }
        for name, row in groups.items()
    }


def markdown(done: dict[str, Any], run: Path) -> str:
    """The table, with command and hardware."""
    machine, dense = done["environment"], done["dense"]
    settings = RunSettings.from_json(dense["settings"])
    lines = [
        "# One-shot pruning",
        "",
        f"`python -m experiments.studies.one_shot --run_dir={run}`: "
        f"{settings.model} on "
        f"{settings.dataset}, {dense['accuracy']:.2%} before pruning; "
        f"{machine['cores']} cores ({machine['cpu']}), TensorFlow "
        f"{machine['tensorflow']}, Keras {machine['keras']}.",
        "",
        "Test accuracy in percent of the compacted network, without any training, "
        f"after BatchNorm was recalibrated on {CALIBRATION_IMAGES} training images "
        "(in brackets: before that). One seed; random: mean of "
        f"{len(RANDOM_SEEDS)} seeds. Ten classes: 10 % is chance.",
        "",
        "| criterion | strategy | "
        + " | ".join(f"MACs -{fraction:.0%}" for fraction in FRACTIONS)
        + " |",
        "| --- | --- |" + " ---: |" * len(FRACTIONS),
    ]
    for (criterion, strategy), row in summary(done).items():
        cells = (
            "{:.2f} ({:.2f})".format(
                100 * row[fraction]["accuracy"],
                100 * row[fraction]["accuracy_before_recalibration"],
            )
            if fraction in row
            else "-"
            for fraction in FRACTIONS
        )
        lines.append(f"| {criterion} | {strategy} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(done: dict[str, Any], path: Path) -> None:
    """Accuracy over the MACs that are left: a panel per strategy."""
    figure, panels = pyplot.subplots(
        1, len(STRATEGIES), figsize=(12, 4), sharey=True, layout="constrained"
    )
    dense = done["dense"]["accuracy"]
    for panel, strategy in zip(panels, STRATEGIES, strict=True):
        for number, criterion in enumerate(criteria.CRITERIA):
            records = summary(done).get((criterion, strategy), {}).values()
            if records:
                xs = [100, *(100 * record["macs_left"] for record in records)]
                ys = [100 * dense, *(100 * record["accuracy"] for record in records)]
                marker = "osD^vPX*"[number]
                panel.plot(
                    xs, ys, color=f"C{number}", marker=marker, ms=4, label=criterion
                )
        panel.set(title=strategy, xlabel="MACs left, %")
        panel.invert_xaxis()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy, %")
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def define_flags() -> None:
    """The run to take, and where to write."""
    flags.DEFINE_string("run_dir", None, "Folder of a finished run.", required=True)
    flags.DEFINE_string("output", "experiments/results", "Where to write.")


def main(_: list[str]) -> None:
    """Measures what is missing, and writes the table and the figure."""
    run = Path(flags.FLAGS.run_dir)
    done = measure(run, points())
    text = markdown(done, run)
    with staged(flags.FLAGS.output) as folder:
        (folder / "one_shot.md").write_text(text, "utf-8")
        (folder / "one_shot.json").write_text(json.dumps(done, indent=1) + "\n")
        draw(done, folder / "one_shot.png")
    print(text)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
