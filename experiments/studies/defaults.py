"""Which method `wrap` should take by default: many small runs, side by side.

    python -m experiments.studies.defaults --tfds_dir=../shared/tensorflow_datasets

A ResNet-8 is pruned on three data sets for 3, 10 or 30 epochs, at rates 0.3, 0.5 and
0.7, with a constant learning rate or a cosine, with SGD or AdamW, from scratch or from
a trained network: 36 of the 216 combinations, chosen so that every two values of two
different factors meet equally often. Every method has the same combinations, seeds,
starts, batches and number of steps; variants of the default, which tell what its
ingredients are good for, have the first seed only. Each run is a file; what is there
is not done again, so the same command goes on where a stopped or killed one was.

What was chosen by looking at these runs was chosen on held-out images; the table is of
the test images.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
from absl import flags

import pgmpf_tf
from experiments.data import datasets
from experiments.networks import models
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies import grid
from experiments.studies.grid import Cell, cells
from pgmpf_tf import PruningConfig, schedules
from pgmpf_tf._files import staged, write_text

Record = dict[str, Any]

HARD = "hard"
"""The method that the others are held against: all at once, then training."""

DEFAULT = "pgmpf"
"""The method of `wrap`, which the variants are held against."""

METHODS = (HARD, DEFAULT)

_FADE = schedules.scaled(schedules.linear(end=0.3), 1.0, 0.0)
_RISE = schedules.cubic(end=0.3)
VARIANTS: Mapping[str, PruningConfig] = {
    "end_0.2": PruningConfig(rate=schedules.cubic(end=0.2)),
    "end_0.5": PruningConfig(rate=schedules.cubic(end=0.5)),
    "fade": PruningConfig(rate=_RISE, weight_mask=_FADE),
    "soft": PruningConfig(rate=_RISE, weight_mask=_FADE, suppression=_RISE),
    "soft_dropout": PruningConfig(
        rate=_RISE, weight_mask=_FADE, suppression=_RISE, dropout=0.5
    ),
}
"""What the default could also be: one ingredient changed at a time."""

BY_ONE_SEED = ("pgmpf_published", "end_0.5", "fade", "soft_dropout")


@dataclasses.dataclass(frozen=True)
class Source:
    """A part of a data set, small enough for many runs.

    Attributes:
        name: the data set.
        train, held_out, test: how many images of each; None for all.
        input_size: edge of the images in pixels.
    """

    name: str
    train: int | None
    held_out: int
    test: int | None
    input_size: int


SOURCES = {
    "digits": Source("digits", None, 300, None, 8),
    "fashion_mnist": Source("fashion_mnist", 2000, 2000, None, 14),
    "cifar10": Source("cifar10", 2000, 2000, None, 16),
}


BATCH_SIZE = 64
LEARNING_RATES = {"sgd": 0.05, "adamw": 1e-3}
DENSE_EPOCHS = 20

Arrays = tuple[np.ndarray, np.ndarray]


@functools.cache
def load(source: Source, tfds_dir: str | None) -> dict[str, Arrays]:
    """The images and labels of a source: `train`, `held_out` and `test`."""
    data = datasets.load(
        source.name,
        tfds_dir=tfds_dir,
        train_examples=source.train,
        held_out=source.held_out,
        input_size=source.input_size,
    )
    parts = {
        "train": (data.train, source.train),
        "held_out": (data.validation, None),
        "test": (data.test, source.test),
    }
    arrays = {}
    for part, (examples, count) in parts.items():
        taken = examples if count is None else examples.take(count)
        pairs = taken.map(lambda x, y: (data.preprocessing.test_image(x), y))
        images, labels = zip(*pairs.as_numpy_iterator(), strict=True)
        arrays[part] = np.stack(images), np.asarray(labels)
    return arrays


def network(arrays: Mapping[str, Arrays]) -> keras.Model:
    """A ResNet-8 with new weights."""
    shape = arrays["train"][0].shape[1:]
    return models.build("resnet8", input_shape=shape, num_classes=10)


def compiled(
    model: keras.Model,
    optimizer: str,
    decay: str,
    steps: int,
    learning_rate: float | None = None,
) -> keras.Model:
    """The model, ready to be trained for so many steps."""
    rate: Any = learning_rate or LEARNING_RATES[optimizer]
    if decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9)
        if optimizer == "sgd"
        else keras.optimizers.AdamW(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def dense(
    cell: Cell, seed: int, folder: Path, tfds_dir: str | None
) -> tuple[keras.Model, float]:
    """The network that pruning starts from, and its accuracy on the test images."""
    arrays = load(SOURCES[cell.data], tfds_dir)
    keras.utils.set_random_seed(seed)
    model = network(arrays)
    if cell.start == "scratch":
        return model, 0.0
    path = folder / "dense" / f"{cell.data}-{cell.optimizer}-{seed}.keras"
    x, y = arrays["train"]
    steps = DENSE_EPOCHS * -(-len(x) // BATCH_SIZE)
    if not path.is_file():
        compiled(model, cell.optimizer, "cosine", steps)
        model.fit(x, y, BATCH_SIZE, epochs=DENSE_EPOCHS, verbose=0)
        with staged(path.parent) as partial:
            model.save(partial / path.name)
    before = _tested(path, SOURCES[cell.data], tfds_dir)
    return keras.saving.load_model(path), before


@functools.cache
def _tested(path: Path, source: Source, tfds_dir: str | None) -> float:
    """The accuracy of a network that many runs start from."""
    return accuracy(keras.saving.load_model(path), load(source, tfds_dir)["test"])


def accuracy(model: keras.Model, arrays: Arrays) -> float:
    """The part of the images whose class is right."""
    return float(model.evaluate(*arrays, 500, verbose=0, return_dict=True)["accuracy"])


def config(method: str, cell: Cell) -> PruningConfig:
    """What a name stands for in a cell."""
    if method in VARIANTS:
        return VARIANTS[method]
    return PruningConfig.preset(method, pretrained=cell.start == "trained")


def run(
    cell: Cell, method: str, seed: int, folder: Path, tfds_dir: str | None
) -> Record:
    """Prunes in one of the ways; what came of it, also after `recalibrate`."""
    arrays = load(SOURCES[cell.data], tfds_dir)
    x, y = arrays["train"]
    plain, before = dense(cell, seed, folder, tfds_dir)
    model = pgmpf_tf.wrap(plain, cell.rate, method=config(method, cell), seed=seed)
    steps = cell.epochs * -(-len(x) // BATCH_SIZE)
    compiled(model, cell.optimizer, cell.decay, steps)
    keras.utils.set_random_seed(seed)  # the same order of batches for every method
    started = time.process_time()
    history = model.fit(x, y, BATCH_SIZE, epochs=cell.epochs, verbose=0)
    spent = time.process_time() - started
    found = {part: accuracy(model, arrays[part]) for part in ("held_out", "test")}
    pgmpf_tf.recalibrate(model, x)
    return {
        **dataclasses.asdict(cell),
        "method": method,
        "seed": seed,
        "dense": before,
        **found,
        "recalibrated": accuracy(model, arrays["held_out"]),
        "rates": [round(value, 4) for value in history.history["pruning_rate"]],
        "processor_seconds": round(spent, 2),
    }


def measure(
    folder: Path,
    methods: Mapping[str, int],
    tfds_dir: str | None,
    known: Iterable[Record] = (),
    only: Container[str] | None = None,
) -> list[Record]:
    """Does what is not done yet, seed by seed, so that a stop leaves whole comparisons.

    Args:
        folder: where the runs are.
        methods: names of presets or of `VARIANTS`, each with its number of seeds.
        tfds_dir: where tensorflow-datasets keeps prepared data.
        known: records of runs that need not be done again.
        only: names of the combinations to run, instead of all.

    Returns:
        The records of all runs.
    """
    done = {(grid.name_of(r), r["method"], r["seed"]): r for r in known}
    planned = [
        (seed, cell, method)
        for seed in range(max(methods.values()))
        for cell in cells()
        if only is None or cell.name in only
        for method, seeds in methods.items()
        if seed < seeds
    ]
    records = []
    for number, (seed, cell, method) in enumerate(planned, start=1):
        path = folder / cell.name / f"{method}-{seed}.json"
        if path.is_file():
            done[cell.name, method, seed] = json.loads(path.read_text("utf-8"))
        if (cell.name, method, seed) in done:
            records.append(done[cell.name, method, seed])
            continue
        record = run(cell, method, seed, folder, tfds_dir)
        write_text(path, json.dumps(record) + "\n")
        records.append(record)
        rich.print(f"{number} of {len(planned)}: {path.parent.name} {path.stem}")
        keras.utils.clear_session()
    return records


def markdown(records: list[Record]) -> str:
    """The summary as tables."""
    rows = grid.summary(records, "test", HARD)
    lines = [
        "# Which method by default",
        "",
        "ResNet-8, accuracy on test images in %, and its difference from hard pruning "
        "of the same network with the same steps, in points, with its standard error "
        "over the combinations (of one, over its seeds). "
        "`python -m experiments.studies.defaults` says how they were chosen.",
        "",
        "| method | combinations | seeds | accuracy | ahead of hard | at worst |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["factor"] == "all":
            lines.append(
                f"| {row['method']} | {row['cells']} | {row['seeds']} | "
                f"{100 * row['mean']:.2f} | {_ahead(row)} | {100 * row['worst']:+.2f} |"
            )
    methods = list(dict.fromkeys(row["method"] for row in rows))
    others = [method for method in methods if method != HARD]
    lines += ["", f"| ahead of hard | {' | '.join(others)} |"]
    lines.append(f"| --- |{' ---: |' * len(others)}")
    found = {(r["factor"], r["value"], r["method"]): _ahead(r) for r in rows}
    for factor, values in grid.FACTORS.items():
        for value in values:
            keys = [(factor, value, method) for method in others]
            if any(key in found for key in keys):
                shown = (found.get(key, "-") for key in keys)
                lines.append(f"| {factor} {value} | {' | '.join(shown)} |")
    return "\n".join([*lines, *_beside_default(records)]) + "\n"


def _beside_default(records: list[Record]) -> list[str]:
    """What the variants change, apart from how far BatchNorm's averages lag."""
    if not any(record["method"] in VARIANTS for record in records):
        return []
    rows = [
        row
        for row in grid.summary(records, "recalibrated", DEFAULT)
        if row["factor"] == "all" and row["method"] in VARIANTS
    ]
    lines = [
        "",
        "Held-out images, after `recalibrate`, beside the default in the same "
        "combinations and seeds:",
        "",
        "| variant | combinations | seeds | ahead of the default | at worst |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    return lines + [
        f"| {row['method']} | {row['cells']} | {row['seeds']} | {_ahead(row)} | "
        f"{100 * row['worst']:+.2f} |"
        for row in rows
    ]


def _ahead(row: Record) -> str:
    error = "" if row["error"] is None else f" ± {100 * row['error']:.2f}"
    return f"{100 * row['ahead']:+.2f}{error}"


def define_flags() -> None:
    """What to run, and where to write."""
    names = f"Names of methods, or of {', '.join(VARIANTS)}"
    flags.DEFINE_list("methods", list(METHODS), f"{names}.")
    flags.DEFINE_list("by_one_seed", list(BY_ONE_SEED), f"{names}, for one seed.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
    every = [cell.name for cell in cells()]
    flags.DEFINE_multi_enum("cells", every, every, "Which combinations.")
    flags.DEFINE_string("runs_dir", "runs/defaults", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")
    flags.DEFINE_string("tfds_dir", None, "Where prepared CIFAR-10 is.")


def main(_: list[str]) -> None:
    """Does what is missing, and writes the tables."""
    given = flags.FLAGS
    methods = dict.fromkeys(given.by_one_seed, 1)
    methods |= dict.fromkeys(given.methods, given.seeds)
    before = Path(given.output) / "defaults.json"
    known = json.loads(before.read_text("utf-8"))["runs"] if before.is_file() else ()
    records = measure(Path(given.runs_dir), methods, given.tfds_dir, known, given.cells)
    rows = grid.summary(records, "test", HARD)
    content = {"summary": rows, "runs": records}
    evaluation.write_results(given.output, "defaults", markdown(records), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
