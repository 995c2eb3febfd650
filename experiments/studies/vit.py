"""A ViT for small images, pruned by heads, neurons and width: what is left of it?

    python -m experiments.studies.vit --tfds_dir=../shared/tensorflow_datasets

A vision transformer of 17 tokens is trained on 10,000 images of CIFAR-10. From there
the dense network trains on, and the same network is pruned in several ways, each for
as many epochs with the same optimizer and schedule: by the default, at once, and of one
kind of structure only. The small network also trains from scratch, for as many epochs
as the dense one and the pruning took together. Each run is a file; what is there is not
done again.

Choices are made on held-out images (`--notest` stops there). The test images are read
once all runs are there; then dense and small take turns as TFLite files.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import rich
from absl import flags

import pgmpf_tf
from experiments.benchmarks.latency import take_turns
from experiments.data.batches import Augmented
from experiments.networks import sized
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies import defaults
from experiments.studies.records import known, spread
from pgmpf_tf._files import write_text
from pgmpf_tf.exporting.formats.tflite import TFLite

Record = dict[str, Any]

KINDS = {"heads": "*query", "neurons": "*_grow", "width": "patches*"}
"""What can go, and a pattern of the layers that tell it."""

WAYS: Mapping[str, tuple[str, tuple[str, ...]] | None] = {
    "dense": None,
    "trained on": None,
    "default": ("pgmpf", tuple(KINDS)),
    "hard": ("hard", tuple(KINDS)),
    "from scratch": None,
    **{f"{kind} only": ("pgmpf", (kind,)) for kind in KINDS},
}
"""How a network is trained: by which method, and what of it goes."""

BY_ONE_SEED = ("from scratch", *(f"{kind} only" for kind in KINDS))
ROUNDS = 40
"""Turns of each file when latency is measured."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all runs have in common.

    Attributes:
        train, held_out: how many images of each; the test images are all taken.
        size, patch: edges in pixels of an image and of a patch.
        depth, width, heads, hidden: see `sized.vit`; heads have 16 channels.
        rate: the fraction of heads, neurons and width to remove.
        dense_epochs: of the dense network.
        epochs: of what comes after it.
        batch_size: images in a step.
        learning_rate, pruning_learning_rate: their peaks, after an epoch of warm-up; a
            cosine follows.
        weight_decay: of AdamW.
    """

    train: int = 10_000
    held_out: int = 2_000
    size: int = 16
    patch: int = 4
    depth: int = 6
    width: int = 64
    heads: int = 4
    hidden: int = 128
    rate: float = 0.5
    dense_epochs: int = 30
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    pruning_learning_rate: float = 1e-3
    weight_decay: float = 0.05

    @property
    def source(self) -> defaults.Source:
        """The images."""
        return defaults.Source("cifar10", self.train, self.held_out, None, self.size)

    def network(self, kept: float = 1.0) -> keras.Model:
        """The network with new weights, dense or built narrow."""
        shape = (self.size, self.size, 3)
        sizes = {name: getattr(self, name) for name in ("width", "heads", "hidden")}
        narrow: Record = {name: round(kept * size) for name, size in sizes.items()}
        return sized.vit(shape, 10, patch=self.patch, depth=self.depth, **narrow)


class Study:
    """All runs of a plan.

    Args:
        plan: what they have in common.
        folder: where they are kept.
        tfds_dir: where tensorflow-datasets keeps prepared data.
    """

    def __init__(self, plan: Plan, folder: Path, tfds_dir: str | None) -> None:
        self.plan, self.folder = plan, folder
        self.images = defaults.load(plan.source, tfds_dir)

    def run(self, way: str, seed: int) -> Record:
        """A run's record; it is done if it is not there."""
        path = self._path(way, seed).with_suffix(".json")
        settings = dataclasses.asdict(self.plan)
        if record := known(path, settings=settings):
            return record
        load, started = os.getloadavg()[0], time.process_time()
        model, kept = self._trained(way, seed)
        spent = time.process_time() - started
        model.save(self._path(way, seed))
        profile = pgmpf_tf.profile(model)
        record = {
            "way": way,
            "seed": seed,
            "held_out": self._accuracy(model, "held_out"),
            "macs": profile.macs,
            "params": profile.params,
            "kept": kept,
            "processor_seconds": round(spent, 1),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "settings": settings,
        }
        write_text(path, json.dumps(record) + "\n")
        return record

    def _path(self, way: str, seed: int) -> Path:
        folder = self.folder / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{way.replace(' ', '_')}.keras"

    def _trained(self, way: str, seed: int) -> tuple[keras.Model, Record]:
        """A network as it is after a run, and what was kept of it by kind."""
        plan, pruning = self.plan, WAYS[way]
        keras.utils.set_random_seed(seed)
        if way in ("dense", "from scratch"):
            scratch = way == "from scratch"
            model = plan.network(1 - plan.rate if scratch else 1.0)
            epochs = plan.dense_epochs + (plan.epochs if scratch else 0)
            self._compile(model, plan.learning_rate, epochs)
            model.fit(self._batches(seed), epochs=epochs, verbose=0)
            return model, {}
        model = keras.saving.load_model(self._path("dense", seed), compile=False)
        # Other orders and crops than those that the dense network has seen.
        batches, epochs = self._batches(seed + 1000), plan.epochs
        if pruning is None:
            self._compile(model, plan.pruning_learning_rate, epochs)
            model.fit(batches, epochs=epochs, verbose=0)
            return model, {}
        method, kinds = pruning
        rates = {KINDS[kind]: plan.rate for kind in kinds}
        pruned = pgmpf_tf.wrap(model, rates, method=method, seed=seed)
        self._compile(pruned, plan.pruning_learning_rate, epochs)
        small = pruned.fit_and_shrink(batches, epochs=epochs, verbose=0)
        return small, _kept(pruned)

    def _compile(self, model: keras.Model, peak: float, epochs: int) -> None:
        steps = -(-self.plan.train // self.plan.batch_size)
        rate = keras.optimizers.schedules.CosineDecay(
            0.01 * peak,
            max(1, (epochs - 1) * steps),
            warmup_target=peak,
            warmup_steps=steps,
        )
        model.compile(
            keras.optimizers.AdamW(rate, weight_decay=self.plan.weight_decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def _batches(self, seed: int) -> Augmented:
        return Augmented(*self.images["train"], self.plan.batch_size, seed)

    def _accuracy(self, model: keras.Model, part: str) -> float:
        x, y = self.images[part]
        return evaluation.accuracy(model.predict(x, 500, verbose=0), y)

    def test(self, records: Sequence[Record]) -> list[Record]:
        """The records with the accuracy of each network on the test images."""
        tested = []
        for record in records:
            model = keras.saving.load_model(
                self._path(record["way"], record["seed"]), compile=False
            )
            tested.append({**record, "test": self._accuracy(model, "test")})
        return tested

    def latency(self, ways: Sequence[str], seed: int) -> list[Record]:
        """Files of some networks, and their medians while they take turns."""
        images = self.images["held_out"][0][:256]
        records, calls = [], []
        for way in ways:
            path = self._path(way, seed)
            model = keras.saving.load_model(path, compile=False)
            exported = pgmpf_tf.export(
                model,
                path.with_suffix(""),
                "tflite",
                batch_size=1,
                verification_data=images,
                verbose=False,
            )["tflite"]
            one = {model.inputs[0].name: images[:1]}
            calls.append(TFLite().inference(exported.path, one))
            deviation = exported.max_deviation
            records.append(
                {"way": way, "bytes": exported.bytes, "deviation": deviation}
            )
        for record, median in zip(records, take_turns(calls, ROUNDS), strict=True):
            record["milliseconds"] = median
        return records


def _kept(model: pgmpf_tf.PrunedModel) -> Record:
    """How many heads, neurons and channels are left, group by group."""
    kept: Record = {kind: [] for kind in KINDS}
    for name, mask in model.masks().items():
        kind = "heads" if "attention" in name else "neurons"
        kept[kind if "block" in name else "width"].append(
            f"{int(mask.sum())} of {len(mask)}"
        )
    return kept


def markdown(plan: Plan, records: Sequence[Record], files: Sequence[Record]) -> str:
    """The runs as tables."""
    dense = next(record for record in records if record["way"] == "dense")
    lines = [
        "# A ViT on CIFAR-10",
        "",
        f"`python -m experiments.studies.vit`: {plan.depth} blocks, {plan.width} "
        f"channels, {plan.heads} heads of 16, {plan.hidden} neurons, patches of "
        f"{plan.patch} pixels; {plan.train:,} training images, {plan.dense_epochs} "
        f"epochs dense, then {plan.epochs} more of each way from the same network, "
        f"AdamW. Rate {plan.rate}. Accuracy in % on all test images (held-out: "
        f"{plan.held_out:,} images), mean and standard "
        "deviation over seeds; differences are paired by seed.",
        "",
        "| way | seeds | test | behind trained on | held-out | MACs | parameters | "
        "heads left | neurons left | width left | processor seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- | ---: |",
    ]
    fair = {r["seed"]: r["test"] for r in records if r["way"] == "trained on"}
    by_way: dict[str, list[Record]] = {}
    for record in records:
        by_way.setdefault(record["way"], []).append(record)
    for way, runs in by_way.items():
        behind = [fair[r["seed"]] - r["test"] for r in runs if r["seed"] in fair]
        first = runs[0]
        kept = (_counted(first["kept"].get(kind, ())) for kind in KINDS)
        seconds = statistics.mean(r["processor_seconds"] for r in runs)
        lines.append(
            f"| {way} | {len(runs)} | {spread([r['test'] for r in runs])} | "
            f"{spread(behind)} | {spread([r['held_out'] for r in runs])} | "
            f"{first['macs']:,} ({first['macs'] / dense['macs'] - 1:+.0%}) | "
            f"{first['params']:,} | {' | '.join(kept)} | {seconds:.0f} |"
        )
    lines += [
        "",
        f"TFLite, float32, one thread, batch of 1: medians of {ROUNDS} turns each, "
        "which alternate; largest deviation from Keras' outputs.",
        "",
        "| file | bytes | milliseconds | of dense | deviation |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for file in files:
        ratio = file["milliseconds"] / files[0]["milliseconds"]
        lines.append(
            f"| {file['way']} | {file['bytes']:,} | {file['milliseconds']:.3f} | "
            f"{ratio:.2f} | {file['deviation']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def _counted(kept: Sequence[str]) -> str:
    """`3 of 6 (6x)`: equal counts once."""
    groups = [(text, len([*same])) for text, same in itertools.groupby(kept)]
    return ", ".join(f"{text} ({n}x)" if n > 1 else text for text, n in groups) or "all"


def define_flags() -> None:
    """What to run, and where to write."""
    plan = Plan()
    flags.DEFINE_list("ways", [w for w in WAYS if w not in BY_ONE_SEED], "What to run.")
    flags.DEFINE_list("by_one_seed", list(BY_ONE_SEED), "What to run for one seed.")
    flags.DEFINE_integer("seeds", 2, "How many seeds.", lower_bound=1)
    flags.DEFINE_float("pruning_learning_rate", plan.pruning_learning_rate, "Its peak.")
    flags.DEFINE_bool("test", True, "Whether to read the test images, and to write.")
    flags.DEFINE_string("runs_dir", "runs/vit", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")
    flags.DEFINE_string("tfds_dir", None, "Where prepared CIFAR-10 is.")


def main(_: list[str]) -> None:
    """Does what is missing, and writes the tables."""
    given = flags.FLAGS
    unknown = {*given.ways, *given.by_one_seed} - WAYS.keys()
    if unknown:
        raise ValueError(
            f"`ways` must be among {', '.join(WAYS)}. Received: {', '.join(unknown)}"
        )
    plan = Plan(pruning_learning_rate=given.pruning_learning_rate)
    study = Study(plan, Path(given.runs_dir), given.tfds_dir)
    planned = [(way, seed) for seed in range(given.seeds) for way in given.ways]
    records = []
    for way, seed in [*planned, *((way, 0) for way in given.by_one_seed)]:
        records.append(study.run(way, seed))
        rich.print({k: v for k, v in records[-1].items() if k != "settings"})
        keras.utils.clear_session()
    if given.test:
        write(study, records, given.output)


def write(study: Study, records: Sequence[Record], output: str | Path) -> None:
    """Tests all networks, times their files, and writes the tables.

    Args:
        study: where the networks are.
        records: of all runs; a dense network is among them.
        output: the folder.
    """
    tested = study.test(records)
    ways = list(dict.fromkeys(r["way"] for r in tested if r["seed"] == 0))
    narrow = [way for way in ("dense", "default", "from scratch") if way in ways]
    files = study.latency(narrow, 0)
    runs = [{k: v for k, v in r.items() if k != "settings"} for r in tested]
    plan = dataclasses.asdict(study.plan)
    content = {"settings": plan, "runs": runs, "files": files}
    text = markdown(study.plan, tested, files)
    evaluation.write_results(output, "vit", text, content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
