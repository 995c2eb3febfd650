"""Which layers pay for a latency: uniform widths, or importance per millisecond?

    python -m experiments.studies.widths --tfds_dir=../shared/tensorflow_datasets

A ResNet with one block a stage is trained on 3,000 images of CIFAR-10 at 16x16. A table
says what each part of it takes on TFLite at each width, for float32 and for int8, and
a budget takes away half of the time: from all groups of filters alike, or where the
least is lost per millisecond, or, which needs no table, per multiply-accumulate (the
fractional knapsack over what `sensitivity` has measured). The loss is measured on
training images.

Predictions are not what is compared. All files of a seed and precision are timed
together, and the budgets of the others are moved until they take at most a hundredth
longer than uniform widths do, and as little less as there is. Then all are trained for
as many epochs, with the same batches. The int8 files are run on the test images, too.

Where a processor multiplies whole matrices (Intel's AMX), int8 takes as long with 8
channels as with 64. `--noamx` has libraries take the kernels of processors without it.

Each run is a file; what is there is not done again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import rich
from absl import flags

import pgmpf_tf
from experiments.data.batches import Augmented
from experiments.networks import sized
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.run.processors import refuse_amx
from experiments.studies import defaults
from experiments.studies.equal_times import SLOWER, Candidate, as_fast
from experiments.studies.records import known, spread
from pgmpf_tf import Budget
from pgmpf_tf._files import staged, write_text
from pgmpf_tf.exporting.measuring import RUNTIMES

Record = dict[str, Any]

UNIFORM = "uniform"
BY_TIME, BY_MACS = "per millisecond", "per MAC"
WAYS = (UNIFORM, BY_TIME, BY_MACS)
"""By what groups are chosen; the first is what the others are held against."""

PRECISIONS = ("float32", "int8")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all runs have in common.

    Attributes:
        train, held_out: how many images of each; the test images are all taken.
        size: edge in pixels of an image.
        widths: filters of each stage of the dense network.
        latency: the fraction of the time to take away.
        measured_on: training images that tell the sensitivity.
        dense_epochs: of the dense network.
        epochs: of each small one.
        batch_size: images in a step.
        learning_rate, tuning_rate: their peaks, which a cosine lowers to 0.
        weight_decay: of SGD with momentum.
        amx: whether the processor may use AMX, if it has it.
    """

    train: int = 3_000
    held_out: int = 1_000
    size: int = 16
    widths: tuple[int, ...] = (32, 64, 128)
    latency: float = 0.5
    measured_on: int = 1_000
    dense_epochs: int = 10
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 0.1
    tuning_rate: float = 0.04
    weight_decay: float = 5e-4
    amx: bool = True

    @property
    def source(self) -> defaults.Source:
        """The images."""
        return defaults.Source("cifar10", self.train, self.held_out, None, self.size)

    @property
    def settings(self) -> Record:
        """The fields as JSON gives them back."""
        fields: Record = json.loads(json.dumps(dataclasses.asdict(self)))
        return fields


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

    def dense(self, seed: int) -> keras.Model:
        """The network that all start from, trained if it is not there."""
        plan, folder = self.plan, self._folder(seed)
        path = folder / "dense.keras"
        if not path.is_file():
            keras.utils.set_random_seed(seed)
            shape = (plan.size, plan.size, 3)
            model = sized.resnet(shape, 10, widths=plan.widths)
            self._fit(model, plan.learning_rate, plan.dense_epochs, seed)
            with staged(folder) as partial:
                model.save(partial / path.name)
        return keras.saving.load_model(path, compile=False)

    def table(self, precision: str) -> pgmpf_tf.LatencyTable:
        """What parts of the network take: of any seed, since weights do not matter."""
        path = self.folder / f"latency_{precision}.json"
        return pgmpf_tf.measure(self.dense(0), path, precision=precision, verbose=False)

    def sensitivity(self, seed: int) -> pgmpf_tf.Sensitivity:
        """What the loss on training images rises by without filters of each group."""
        model = self.dense(seed)
        _compile(model, 0.0, 0.0)
        return pgmpf_tf.sensitivity(
            model,
            tuple(part[: self.plan.measured_on] for part in self.images["train"]),
            (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875),
            metric="loss",
            path=self._folder(seed) / "sensitivity.json",
            progress=False,
        )

    def runs(self, precision: str, seed: int, ways: Sequence[str]) -> list[Record]:
        """The records of one seed and precision; what is missing is done.

        Args:
            precision: of the files.
            seed: of the dense network and the batches.
            ways: what is held against uniform widths, and these.
        """
        found = []
        uniform: Candidate | None = None
        for way in [UNIFORM, *(way for way in ways if way != UNIFORM)]:
            path = self._path(way, precision, seed).with_suffix(".json")
            record = known(path, settings=self.plan.settings)
            if record is None:
                if uniform is None:
                    uniform = self._pruned(UNIFORM, precision, seed, self.plan.latency)
                record = self._run(way, precision, seed, uniform)
                write_text(path, json.dumps(record) + "\n")
            found.append(record)
        return found

    def _run(self, way: str, precision: str, seed: int, uniform: Candidate) -> Record:
        started = time.process_time()
        chosen = uniform
        if way != UNIFORM:
            chosen = self._as_fast(way, precision, seed, uniform)
        model, plan = chosen.model, self.plan
        before = self._accuracy(model, "held_out")
        keras.utils.set_random_seed(seed)
        # Other orders and crops than those that the dense network has seen.
        self._fit(model, plan.tuning_rate, plan.epochs, seed + 1000)
        model.save(self._path(way, precision, seed))
        dense = self.dense(seed)
        milliseconds = self._milliseconds(precision, [dense, uniform.model, model])
        macs = [pgmpf_tf.profile(network).macs for network in (dense, model)]
        return {
            "way": way,
            "precision": precision,
            "seed": seed,
            "dense": self._accuracy(dense, "test"),
            "before": before,
            "held_out": self._accuracy(model, "held_out"),
            "test": self._accuracy(model, "test"),
            "test_file": self._accuracy_of_file(model, way, precision, seed),
            "kept": list(chosen.kept),
            "asked": chosen.asked,
            "macs": macs[1] / macs[0],
            "of_dense": milliseconds[2] / milliseconds[0],
            "of_uniform": milliseconds[2] / milliseconds[1],
            "milliseconds": milliseconds[2],
            "processor_seconds": round(time.process_time() - started, 1),
            "load": round(os.getloadavg()[0], 1),
            "settings": plan.settings,
        }

    def _pruned(
        self, way: str, precision: str, seed: int, fraction: float
    ) -> Candidate:
        """A small network by a budget, its statistics measured anew."""
        measured: Record = {}
        if way != UNIFORM:
            drops = self.sensitivity(seed)
            measured = {"strategy": "sensitivity", "sensitivity": drops}
        if way == BY_MACS:
            budget = Budget(macs=fraction, **measured)
        else:
            table = self.table(precision)
            budget = Budget(latency=fraction, latency_table=table, **measured)
        model = pgmpf_tf.wrap(self.dense(seed), budget, seed=seed)
        model.apply_masks()
        pgmpf_tf.recalibrate(model, self.images["train"][0])
        kept = tuple(int(mask.sum()) for mask in model.masks().values())
        return Candidate(pgmpf_tf.compact(model), kept, fraction)

    def _as_fast(
        self, way: str, precision: str, seed: int, uniform: Candidate
    ) -> Candidate:
        """The network that takes as long as that of uniform widths, or less."""

        def pruned(fraction: float) -> Candidate:
            return self._pruned(way, precision, seed, fraction)

        def ratio(candidate: Candidate) -> float:
            networks = [uniform.model, candidate.model]
            own, other = self._milliseconds(precision, networks)
            return other / own

        return as_fast(pruned, ratio, self.plan.latency)

    def _milliseconds(
        self, precision: str, networks: Sequence[keras.Model]
    ) -> list[float]:
        return RUNTIMES["tflite"](precision, 1).milliseconds(networks)

    def _fit(self, model: keras.Model, peak: float, epochs: int, seed: int) -> None:
        batches = Augmented(*self.images["train"], self.plan.batch_size, seed)
        schedule = keras.optimizers.schedules.CosineDecay(peak, epochs * len(batches))
        _compile(model, schedule, self.plan.weight_decay)
        model.fit(batches, epochs=epochs, verbose=0)

    def _accuracy(self, model: keras.Model, part: str) -> float:
        x, y = self.images[part]
        return evaluation.accuracy(model.predict(x, 500, verbose=0), y)

    def _accuracy_of_file(
        self, model: keras.Model, way: str, precision: str, seed: int
    ) -> float:
        """Of the `.tflite` file, on the test images."""
        exported = pgmpf_tf.export(
            model,
            self._path(way, precision, seed).with_suffix(""),
            "tflite",
            quantize=None if precision == "float32" else precision,
            representative_data=self.images["train"][0][:500],
            verification_data=self.images["held_out"][0],
            min_agreement=0.0,
            verbose=False,
        )["tflite"]
        x, y = self.images["test"]
        return evaluation.accuracy(evaluation.tflite_outputs(exported.path, x, 500), y)

    def _folder(self, seed: int) -> Path:
        folder = self.folder / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, way: str, precision: str, seed: int) -> Path:
        return self._folder(seed) / f"{precision}_{way.replace(' ', '_')}.keras"


def _compile(model: keras.Model, rate: Any, weight_decay: float) -> None:
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, weight_decay=weight_decay or None),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def markdown(plan: Plan, records: Sequence[Record]) -> str:
    """The runs as tables: means over seeds, and the widths of each."""
    flag, without = ("", "") if plan.amx else (" --noamx", ", kernels without AMX")
    lines = [
        "# Widths for a runtime",
        "",
        f"`python -m experiments.studies.widths{flag}`: a ResNet of stages of "
        f"{', '.join(map(str, plan.widths))} filters, CIFAR-10 at {plan.size}x"
        f"{plan.size}, {plan.train:,} training images, {plan.dense_epochs} epochs. "
        f"Uniform widths by a budget of {plan.latency:.0%} less predicted time; the "
        f"others as fast as these, measured (at most {SLOWER - 1:.0%} slower). Then "
        f"{plan.epochs} epochs each. TFLite, one thread, processor time, lower "
        f"quartile of alternating turns{without}. Accuracy in % on all test images, of "
        "the file itself; mean and standard deviation over seeds, differences paired "
        "by seed.",
        "",
        "| precision | chosen | seeds | accuracy | over uniform | network in float32 | "
        "before training (held out) | time, of dense | of uniform | MACs left |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    cases: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        cases.setdefault((record["precision"], record["way"]), []).append(record)
    for (precision, way), runs in cases.items():
        base = {r["seed"]: r["test_file"] for r in cases[precision, UNIFORM]}
        gains = [r["test_file"] - base[r["seed"]] for r in runs]
        cells = [
            spread([r["test_file"] for r in runs]),
            "-" if way == UNIFORM else spread(gains),
            spread([r["test"] for r in runs]),
            spread([r["before"] for r in runs]),
            *(
                f"{statistics.mean(r[name] for r in runs):.3f}"
                for name in ("of_dense", "of_uniform", "macs")
            ),
        ]
        lines.append(f"| {precision} | {way} | {len(runs)} | {' | '.join(cells)} |")
    dense = {r["seed"]: r["dense"] for r in records}
    lines += [
        "",
        f"The dense networks: {spread(list(dense.values()))}.",
        "",
        "| precision | chosen | seed | filters kept, group by group | accuracy | "
        "time, of dense |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    lines += [
        f"| {r['precision']} | {r['way']} | {r['seed']} | "
        f"{', '.join(map(str, r['kept']))} | {100 * r['test_file']:.2f} | "
        f"{r['of_dense']:.3f} |"
        for r in records
    ]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to run, and where to write."""
    flags.DEFINE_list("ways", list(WAYS), "What to run; uniform widths always.")
    flags.DEFINE_list("precisions", list(PRECISIONS), "Of the files.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
    flags.DEFINE_string("runs_dir", "runs/widths", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")
    flags.DEFINE_string("tfds_dir", None, "Where prepared CIFAR-10 is.")
    flags.DEFINE_bool("amx", True, "Whether int8 may use AMX, if there is any.")


def main(_: list[str]) -> None:
    """Does what is missing, seed by seed, and writes the tables."""
    given = flags.FLAGS
    for name, all_of in {"ways": WAYS, "precisions": PRECISIONS}.items():
        unknown = {*getattr(given, name)} - {*all_of}
        if unknown:
            raise ValueError(
                f"`{name}` must be among {', '.join(all_of)}. "
                f"Received: {', '.join(sorted(unknown))}"
            )
    if not given.amx:
        refuse_amx()
    study = Study(Plan(amx=given.amx), Path(given.runs_dir), given.tfds_dir)
    records = []
    for seed in range(given.seeds):
        for precision in given.precisions:
            for record in study.runs(precision, seed, given.ways):
                records.append(record)
                rich.print({k: v for k, v in record.items() if k != "settings"})
            keras.utils.clear_session()
    write(study.plan, records, given.output)


def write(plan: Plan, records: Sequence[Record], output: str | Path) -> None:
    """Writes the tables.

    Args:
        plan: what the runs have in common.
        records: of all runs, those of uniform widths among them.
        output: the folder.
    """
    runs = [{k: v for k, v in r.items() if k != "settings"} for r in records]
    order = sorted(
        runs, key=lambda r: (r["precision"], WAYS.index(r["way"]), r["seed"])
    )
    content = {"settings": plan.settings, "runs": order}
    evaluation.write_results(output, "widths", markdown(plan, order), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
