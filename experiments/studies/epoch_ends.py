"""Whether the accuracy that `fit` reports while it prunes is that of the network.

    python -m experiments.studies.epoch_ends

A trained ResNet-8 is pruned by the default method. At the end of every epoch its
accuracy on all images that it has not seen is held against the one that it has once
`recalibrate` has measured BatchNormalization's statistics anew on all training images:
the network then goes on with those that it had. At a high learning rate these are never
quite those of the moment, so the same network trains beside it without being pruned.
Each run is a file; what is there is not done again.

What was chosen by looking at such runs was chosen with `--part=held_out`; otherwise the
test images are there, too: on 300 images of digits alone three points are nine images.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rich
from absl import flags

import pgmpf_tf
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies import defaults
from pgmpf_tf._files import write_text

DATA = ("digits", "fashion_mnist")
OPTIMIZERS = (("adamw", 0.001), ("sgd", 0.01), ("sgd", 0.05))
"""With their learning rates: those of Keras, and one that is high for pruning."""

BATCH_SIZES = (32, 128)
EPOCHS = 10
PARTS = {"held_out": ("held_out",), "unseen": ("held_out", "test")}
"""What accuracies are of."""

MOST = 2000
"""How many images of each part they are of, at most."""


class Recalibrated(keras.callbacks.Callback):
    """Measures both accuracies at the end of every epoch.

    Args:
        train: the images that it is trained on.
        unseen: images and labels that it is not trained on.

    Attributes:
        found: for each epoch the accuracy as it is and the one after `recalibrate`.
    """

    def __init__(self, train: np.ndarray, unseen: defaults.Arrays) -> None:
        super().__init__()
        self.train, self.unseen = train, unseen
        self.found: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measures them."""
        weights = self.model.get_weights()
        as_it_is = defaults.accuracy(self.model, self.unseen)
        pgmpf_tf.recalibrate(self.model, self.train)
        again = defaults.accuracy(self.model, self.unseen)
        self.model.set_weights(weights)
        self.found.append((as_it_is, again))


def measure(
    data: str,
    optimizer: str,
    learning_rate: float,
    batch_size: int,
    rate: float,
    seed: int,
    part: str,
) -> dict[str, Any]:
    """One network: accuracies at epochs' ends, and their largest difference.

    Args:
        data: one of `defaults.SOURCES`.
        optimizer: one of `defaults.LEARNING_RATES`.
        learning_rate: while it is pruned; the dense network has the one given there.
        batch_size: images in a step.
        rate: the fraction of filters to remove.
        seed: of the network, the batches and the masks.
        part: one of `PARTS`.
    """
    arrays = defaults.load(defaults.SOURCES[data], None)
    x, y = arrays["train"]
    unseen = _joined([arrays[name] for name in PARTS[part]])
    keras.utils.set_random_seed(seed)
    model = defaults.network(arrays)
    steps = defaults.DENSE_EPOCHS * -(-len(x) // batch_size)
    defaults.compiled(model, optimizer, "cosine", steps)
    model.fit(x, y, batch_size, epochs=defaults.DENSE_EPOCHS, verbose=0)
    weights = model.get_weights()
    pruned = pgmpf_tf.wrap(keras.models.clone_model(model), rate, seed=seed)
    record: dict[str, Any] = {"data": data, "optimizer": optimizer}
    record |= {"learning_rate": learning_rate, "batch_size": batch_size}
    record |= {"seed": seed, "rate": rate, "part": part}
    for name, trained in (("pruned", pruned), ("plain", model)):
        trained.set_weights(weights)
        defaults.compiled(trained, optimizer, "constant", 1, learning_rate)
        watch = Recalibrated(x, unseen)
        trained.fit(x, y, batch_size, epochs=EPOCHS, verbose=0, callbacks=[watch])
        record[name] = {
            "as_it_is": [round(one, 4) for one, _ in watch.found],
            "recalibrated": [round(other, 4) for _, other in watch.found],
            "largest": round(max(abs(a - b) for a, b in watch.found), 4),
        }
    return record


def _joined(parts: list[defaults.Arrays]) -> defaults.Arrays:
    images, labels = (
        np.concatenate([arrays[:MOST] for arrays in kind])
        for kind in zip(*parts, strict=True)
    )
    return images, labels


def markdown(records: list[dict[str, Any]]) -> str:
    """The runs as a table."""
    lines = [
        "# Accuracy at the ends of epochs while a network is pruned",
        "",
        "Accuracy in % as it is, and how far it is from that after `recalibrate`, in "
        "points, at the worst epoch "
        f"(`python -m experiments.studies.epoch_ends`; ResNet-8, {EPOCHS} epochs from "
        "a trained network, default method; constant learning rates, SGD with momentum "
        "0.9).",
        "",
        "| part | data | optimizer | learning rate | batch size | rate | seed | "
        "first epoch | last epoch | farthest | farthest, not pruned |",
        "| --- | --- | --- |" + " ---: |" * 8,
    ]
    for record in records:
        pruned, plain = record["pruned"], record["plain"]
        first, last = pruned["as_it_is"][0], pruned["as_it_is"][-1]
        lines.append(
            f"| {record['part']} | {record['data']} | {record['optimizer']} | "
            f"{record['learning_rate']} | {record['batch_size']} | {record['rate']} | "
            f"{record['seed']} | {100 * first:.1f} | {100 * last:.1f} | "
            f"{100 * pruned['largest']:.1f} | {100 * plain['largest']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to run, and where to write."""
    flags.DEFINE_float("rate", 0.5, "Fraction of filters to remove.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
    flags.DEFINE_multi_enum(
        "part", ["unseen"], list(PARTS), "Accuracies of what (repeatable)."
    )
    flags.DEFINE_string("runs_dir", "runs/epoch_ends", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")


def main(_: list[str]) -> None:
    """Runs all, and writes the table."""
    given = flags.FLAGS
    folder = Path(given.runs_dir)
    records = []
    cases = itertools.product(
        given.part, OPTIMIZERS, DATA, BATCH_SIZES, range(given.seeds)
    )
    for part, which, data, batch_size, seed in cases:
        settings = data, *which, batch_size, given.rate, seed, part
        path = folder / f"{'-'.join(map(str, settings))}.json"
        if not path.is_file():
            record = measure(*settings)
            write_text(path, json.dumps(record) + "\n")
            rich.print(f"{path.stem}: {record['pruned']}")
            keras.utils.clear_session()
        records.append(json.loads(path.read_text("utf-8")))
    content = {"runs": records}
    evaluation.write_results(given.output, "epoch_ends", markdown(records), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
