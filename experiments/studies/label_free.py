"""A trained network and images without labels: what do more images, more minutes give?

    python -m experiments.studies.label_free \
        --run_dirs=runs/cifar10/hard/rate0.5/seed0,runs/cifar10/hard/rate0.5/seed1

Takes the dense network of finished runs of experiments.train, and takes half of its
multiply-accumulates away with the first so many of the run's training images, without
their labels: by norms, the same rate everywhere and new BatchNorm statistics
(`statistics`), and by `pgmpf_tf.prune` for some minutes (0: filters are chosen and
kernels fitted, and nothing is trained). Every network is tested on all test images;
no choice is made by them.

Each result is a file in --runs_dir; what is there is not done again.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
from absl import flags

import pgmpf_tf
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies.records import known, spread
from pgmpf_tf import Budget
from pgmpf_tf._files import write_text

Record = dict[str, Any]

REMOVED = 0.5
"""The fraction of the multiply-accumulates that goes."""

STATISTICS = "statistics"
"""Of the ways the one that is no number of minutes."""


def label_free(model: keras.Model, x: np.ndarray, way: str, seed: int) -> keras.Model:
    """The small network that is made without labels.

    Args:
        model: the trained network; it is not changed.
        x: images as it takes them.
        way: `STATISTICS`, or the minutes that `pgmpf_tf.prune` may learn.
        seed: of what is random.
    """
    if way == STATISTICS:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        pruned = pgmpf_tf.wrap(copy, Budget(macs=REMOVED), seed=seed)
        pruned.apply_masks()
        pgmpf_tf.recalibrate(pruned, x)
        return pgmpf_tf.compact(pruned)
    with tempfile.TemporaryDirectory() as folder:
        return pgmpf_tf.prune(
            model,
            x,
            folder,
            budget=Budget(macs=REMOVED),
            formats="keras",
            minutes=float(way),
            seed=seed,
            verbose=False,
        ).model


class Study:
    """What is made of the dense network of one run.

    Args:
        run_dir: a finished run of experiments.train.
        folder: where records are kept.

    Raises:
        ValueError: `run_dir` is no finished run.
    """

    def __init__(self, run_dir: Path, folder: Path) -> None:
        self.settings, self._data, networks = evaluation.finished_run(run_dir)
        self._dense, self._folder = networks["dense"], folder
        self._test = evaluation.test_set(self._data, self.settings.batch_size)
        self._outputs = self._predict(self._dense)

    def run(self, way: str, images: int) -> Record:
        """A record; what is missing is done.

        Args:
            way: see `label_free`.
            images: how many there are.

        Raises:
            ValueError: there are fewer, or the record is of another network.
        """
        settings = self.settings.to_json()
        path = self._folder / f"{way}_{images}_{self.settings.seed}.json"
        if record := known(path, settings=settings):
            return record
        if images > self._data.train_size:
            raise ValueError(
                f"`images` must be at most {self._data.train_size}, what the run was "
                f"trained on. Received: images={images}"
            )
        x, _ = self._data.arrays(self._data.train.take(images), 500)
        started = time.process_time(), time.monotonic()
        small = label_free(self._dense, x, way, self.settings.seed)
        spent = time.process_time() - started[0], time.monotonic() - started[1]
        outputs = self._predict(small)
        macs = [pgmpf_tf.profile(model).macs for model in (self._dense, small)]
        record = {
            "way": way,
            "images": images,
            "seed": self.settings.seed,
            "dense": evaluation.accuracy(self._outputs, self._test[1]),
            "accuracy": evaluation.accuracy(outputs, self._test[1]),
            "agreement": evaluation.same_classes(outputs, self._outputs),
            "macs": macs[1] / macs[0],
            "processor_seconds": round(spent[0], 1),
            "seconds": round(spent[1], 1),
            "load": round(os.getloadavg()[0], 1),
            "settings": settings,
        }
        write_text(path, json.dumps(record) + "\n")
        return record

    def _predict(self, model: keras.Model) -> np.ndarray:
        outputs: np.ndarray = model.predict(self._test[0], 500, verbose=0)
        return outputs


def markdown(records: Sequence[Record]) -> str:
    """A row for each way and number of images: means over seeds."""
    settings = records[0]["settings"]
    dense = {record["seed"]: record["dense"] for record in records}
    lines = [
        "# Without labels: images and minutes",
        "",
        f"`python -m experiments.studies.label_free`: {settings['model']} on "
        f"{settings['dataset']}, {REMOVED:.0%} of the multiply-accumulates gone; "
        f"{len(dense)} dense networks ({spread(list(dense.values()))} % on all test "
        "images). Images are the first ones of those that they were trained on, "
        "without labels. `statistics`: by norms, one rate, new BatchNorm statistics; "
        "else `pgmpf_tf.prune`, and the minutes that it may learn (0: filters are "
        "chosen and kernels fitted). Percent; mean and standard deviation over "
        "networks.",
        "",
        "| way | images | networks | accuracy | same class as dense | MACs left | "
        "processor s | seconds | load |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record["way"], record["images"]), []).append(record)
    for (way, images), runs in groups.items():
        means = {
            key: statistics.mean(run[key] for run in runs)
            for key in ("macs", "processor_seconds", "seconds", "load")
        }
        cells = [
            way if way == STATISTICS else f"prune, {way} minutes",
            f"{images:,}",
            str(len(runs)),
            spread([run["accuracy"] for run in runs]),
            spread([run["agreement"] for run in runs]),
            f"{means['macs']:.1%}",
            f"{means['processor_seconds']:.0f}",
            f"{means['seconds']:.0f}",
            f"{means['load']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to run, and where to write."""
    flags.DEFINE_list("run_dirs", None, "Finished runs, one a seed.", required=True)
    flags.DEFINE_list("ways", [STATISTICS, "0", "1", "4"], f"{STATISTICS}, or minutes.")
    flags.DEFINE_list("images", ["100", "500", "2000", "8000"], "How many images.")
    flags.DEFINE_string("runs_dir", "runs/label_free", "Folder of the records.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")


def main(_: list[str]) -> None:
    """Does what is missing, and writes the table."""
    given = flags.FLAGS
    folder = Path(given.runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    studies = [Study(Path(run_dir), folder) for run_dir in given.run_dirs]
    records = []
    for way in given.ways:
        for images in map(int, given.images):
            for study in studies:
                records.append(study.run(way, images))
                rich.print({k: v for k, v in records[-1].items() if k != "settings"})
    content = {
        "settings": records[0]["settings"],
        "runs": [{k: v for k, v in r.items() if k != "settings"} for r in records],
    }
    evaluation.write_results(given.output, "label_free", markdown(records), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
