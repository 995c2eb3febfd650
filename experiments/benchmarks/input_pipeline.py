"""Measures whether the input pipelines keep up with the training steps they feed.

The pipelines are those of experiments.data.datasets, on images that this program makes:
CIFAR-10-like arrays (crop, flip, cutout), and a folder of JPEG files of ImageNet's
usual size (decoding, random resized crop, flip). One epoch of the pipeline alone, its
start included, and steps of the network on a batch that is there already alternate in
one process. Where training runs on the same cores as the pipeline, the processor time
of both counts as well: the pipeline takes its share from the step.

    python -m experiments.benchmarks.input_pipeline --output=experiments/results
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.data import datasets
from experiments.data.datasets import Data
from experiments.data.preprocessing import PREPROCESSING
from experiments.networks import models
from experiments.run.evaluation import environment
from experiments.run.launching import launch
from pgmpf_tf._files import write_text

# The median size of ImageNet's images; their files have about 110 kB.
JPEG_HEIGHT, JPEG_WIDTH, JPEG_QUALITY = 375, 500, 92
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """A pipeline and the network that it feeds.

    Attributes:
        network: its name in `experiments.networks.models`.
        batch_size: images per step.
        steps: training steps that are timed together.
        make: from a folder and a number of JPEG images to the data.
    """

    network: str
    batch_size: int
    steps: int
    make: Callable[[pathlib.Path, int], Data]


def small_images(folder: pathlib.Path, images: int) -> Data:
    """Noise of CIFAR-10's size, in memory, prepared as CIFAR-10's."""
    del folder
    rng = np.random.default_rng(0)
    count = 10 * images
    pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, count)
    train = tf.data.Dataset.from_tensor_slices((pixels, labels))
    preprocessing = PREPROCESSING["cifar10"]
    rest = train.take(1)
    return Data("cifar10-like", preprocessing, CLASSES, train, rest, rest)


def jpeg_files(folder: pathlib.Path, images: int) -> Data:
    """A folder of JPEG files, prepared as ImageNet's."""
    rng = np.random.default_rng(0)
    for number in range(images):
        split = "train" if number else "test"
        path = folder / split / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Large shapes with some noise: the files get the size of a photograph's.
        shapes = tf.image.resize(
            rng.uniform(40, 215, (8, 11, 3)), (JPEG_HEIGHT, JPEG_WIDTH), "bicubic"
        )
        noise = rng.normal(0, 12, shapes.shape)
        pixels = tf.cast(tf.clip_by_value(shapes + noise, 0, 255), tf.uint8)
        path.write_bytes(tf.io.encode_jpeg(pixels, quality=JPEG_QUALITY).numpy())
    return datasets.load("folder", data_dir=str(folder))


CASES = {
    "cifar10-like": Case("resnet20", 128, 10, small_images),
    "imagenet-like": Case("resnet34", 32, 1, jpeg_files),
}


def stepper(case: Case, data: Data) -> Callable[[], None]:
    """A function that trains for `case.steps` steps on one batch in memory."""
    model = models.build(
        case.network, input_shape=data.input_shape, num_classes=data.num_classes
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batch = next(iter(data.train_batches(case.batch_size, seed=0, epochs=1)))
    batches = iter(tf.data.Dataset.from_tensors(batch).cache().repeat())
    model.make_train_function()

    def work() -> None:
        for _ in range(case.steps):
            logs = model.train_function(batches)
        float(logs["loss"])  # waits for the end of the last step

    return work


def per_image(work: Callable[[], Any], images: int) -> dict[str, float]:
    """Wall and processor milliseconds per image of a piece of work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "wall": 1e3 * (time.perf_counter() - wall) / images,
        "processor": 1e3 * (time.process_time() - processor) / images,
    }


def measure(name: str, turns: int, images: int) -> dict[str, Any]:
    """Times one case.

    Args:
        name: a key of `CASES`.
        turns: how often the pipeline and the step alternate.
        images: JPEG files to make.

    Returns:
        Medians: milliseconds per image, images per second, and what the pipeline
        delivers over what the step takes.
    """
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        data = case.make(pathlib.Path(folder), images)
        epochs = iter(range(turns + 1))

        def pipeline() -> None:
            epoch = next(epochs)
            batches = data.train_batches(
                case.batch_size, seed=0, epochs=epoch + 1, first_epoch=epoch
            )
            for _ in batches:
                pass

        step = stepper(case, data)
        rows = []
        for _ in track(range(turns + 1), description=name):
            rows.append(
                {
                    "pipeline": per_image(pipeline, data.train_size),
                    "step": per_image(step, case.steps * case.batch_size),
                }
            )
    del rows[0]  # the first turn meets cold caches, and traces
    result: dict[str, Any] = {
        "case": name,
        "network": case.network,
        "batch_size": case.batch_size,
        "turns": turns,
    }
    for part in ("pipeline", "step"):
        for clock in ("wall", "processor"):
            result[f"{part}_{clock}_ms"] = statistics.median(
                row[part][clock] for row in rows
            )
        result[f"{part}_images_per_second"] = 1e3 / result[f"{part}_wall_ms"]
    ratios = [row["step"]["wall"] / row["pipeline"]["wall"] for row in rows]
    result["ratio"] = statistics.median(ratios)
    result["ratio_range"] = [min(ratios), max(ratios)]
    return result


def show(results: list[dict[str, Any]]) -> None:
    """Prints the results as a table."""
    table = Table(title="Input pipeline alone, and training step")
    titles = ("case", "pipeline", "step", "pipeline : step", "processor per image")
    for title in titles:
        table.add_column(title)
    for row in results:
        table.add_row(
            f"{row['case']}, {row['network']}",
            f"{row['pipeline_images_per_second']:,.0f} images/s",
            f"{row['step_images_per_second']:,.1f} images/s",
            f"{row['ratio']:.1f}",
            f"{row['pipeline_processor_ms']:.2f} and {row['step_processor_ms']:.1f} ms",
        )
    Console().print(table)


def define_flags() -> None:
    """How much to measure, and where to write."""
    flags.DEFINE_integer("turns", 5, "Alternations per case.", lower_bound=1)
    flags.DEFINE_integer(
        "images",
        512,
        "JPEG files to make; ten times as many small images.",
        lower_bound=32,
    )
    flags.DEFINE_string(
        "output", None, "Directory for input_pipeline.json; none if not given."
    )


def main(_: list[str]) -> None:
    """Measures, prints, and writes the file."""
    turns, images = flags.FLAGS.turns, flags.FLAGS.images
    results = [measure(name, turns, images) for name in CASES]
    show(results)
    if flags.FLAGS.output:
        path = pathlib.Path(flags.FLAGS.output) / "input_pipeline.json"
        record = {"machine": environment(), "results": results}
        write_text(path, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    launch(main, define_flags)
