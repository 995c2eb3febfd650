"""`prune`: from a trained network and data without labels to smaller files."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree
from rich.console import Console

from pgmpf_tf._checks import (
    check_bool,
    check_choice,
    check_number,
    check_path,
    check_seed,
    check_type,
)
from pgmpf_tf._files import staged
from pgmpf_tf.budgets.budget import Budget
from pgmpf_tf.compaction import compact
from pgmpf_tf.delivery import choosing, inputs, mending, ranges, work
from pgmpf_tf.delivery.copying import copy_of, without_last_activations
from pgmpf_tf.delivery.distance import losses, packed
from pgmpf_tf.delivery.reconstruction import reconstruct
from pgmpf_tf.delivery.results import PruningResult
from pgmpf_tf.exporting import ExportReport, export, samples
from pgmpf_tf.exporting.options import Options
from pgmpf_tf.exporting.results import OutputError
from pgmpf_tf.exporting.signature import Signature
from pgmpf_tf.exporting.verification import compare_outputs
from pgmpf_tf.reporting import compare, report
from pgmpf_tf.scores.ranking import RoundTo, check_round_to
from pgmpf_tf.training.recalibration import recalibrate
from pgmpf_tf.training.wrapping import wrap


def prune(
    model: keras.Model,
    data: Any,
    directory: str | os.PathLike[str],
    *,
    budget: Budget | None = None,
    round_to: RoundTo = 1,
    formats: str | Sequence[str] = "tflite",
    quantize: str | None = None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    minutes: float = 5.0,
    input_range: str | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    verbose: bool = True,
) -> PruningResult:
    """Makes a trained network smaller with data that have no labels.

    The dense network is the only judge: filters go where that changes its outputs
    least for what it saves; the kernels that are left are fitted, layer by layer, to
    what the dense network's layers give; then the small network learns to give what the
    dense one gives. What it gives on held-out samples is held against the dense
    network's in the end.

    ```python
    result = pgmpf_tf.prune(model, "photos/", "out/", budget=pgmpf_tf.Budget(macs=0.5))
    rich.print(result)
    ```

    `directory` gets `small.keras`, `report.html`, and the folders `dense` and `small`
    with exported files. A run that was interrupted goes on where it was when it is
    called again with the same arguments.

    Args:
        model: a built Keras model. It is not changed.
        data: samples without labels, some hundred to some thousand: the path of a
            folder of images (read as `keras.utils.image_dataset_from_directory` does,
            folders in it too); of a `.npy` file, or of a `.npz` file with one array or
            one by the name of each input; or what `export` takes. A tenth tells when
            mending is best, a fifth is held out.
        directory: where to write; made if it is missing.
        budget: what to take away; half of the multiply-accumulates by default.
        round_to: groups keep a multiple of so many filters, or as a `Rounding` says:
            4 for ONNX Runtime, whose kernels are slower in between.
        formats: what to export, see `export`.
        quantize: precision of the `.tflite` file, see `export`.
        tolerance: how far a file may deviate from its network, see `export`.
        min_agreement: on what part of the held-out samples a file must have the top
            class of its network, see `export`. After a file was refused, a call with
            less exports again, and does nothing else anew.
        minutes: how long the small network may learn, 0 for not at all; choosing
            filters and fitting kernels may take as long again.
        input_range: the range of pixels that the network wants, for a folder of
            images: `"0..255"`, `"0..1"` or `"-1..1"`. None finds it out, and the
            result says how.
        image_size: height and width of images from a folder, for a network that takes
            any; the small network takes this size only.
        seed: of the order of samples, in [0, 2^31).
        verbose: show progress.

    Returns:
        The small network, its files, and how far it is from the dense one.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: an argument is not allowed, the data or the budget do not fit the
            model, the range or the size of images cannot be found out, or the directory
            holds unfinished work of another run, or one is at work in it.
        FileNotFoundError: nothing is at the path of the data.
        ImportError: a format needs a package that is not installed.
        VerificationError: an exported file is too far from its network.
    """
    check_type("model", model, keras.Model, "a keras.Model")
    directory = check_path("directory", directory)
    budget = Budget(macs=0.5) if budget is None else budget
    check_type("budget", budget, Budget, "a Budget")
    round_to = check_round_to(round_to)
    # Now rather than after minutes.
    Options.of(formats, quantize, None, False, tolerance, min_agreement)
    files = {
        "formats": formats,
        "quantize": quantize,
        "tolerance": tolerance,
        "min_agreement": min_agreement,
    }
    seconds = 60 * check_number("minutes", minutes, "[0, inf)")
    if input_range is not None:
        check_choice("input_range", input_range, ranges.RANGES)
    image_size = inputs.check_image_size(image_size, data)
    seed = check_seed("seed", seed)
    run = _Run(model, directory, budget, round_to, seed, check_bool("verbose", verbose))
    with run.step("reading data"):
        run.read(data, input_range, image_size)
    with work.opened(directory, run.settings) as folder:
        small = run.prune_once(folder, seconds / 2)
        before = run.errors(small)
        if seconds:
            with run.step("mending"):
                small = run.mend(folder, small, seconds)
        return run.finish(small, before, files)


@dataclass
class _Run:
    """One run: what its steps share.

    Attributes:
        model: the network as it was given.
        directory: where files go.
        budget: what to take away.
        round_to: what numbers of filters a group may keep.
        seed: of what is random.
        verbose: whether to show progress.
    """

    model: keras.Model
    directory: Path
    budget: Budget
    round_to: RoundTo
    seed: int
    verbose: bool
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self._console = Console(stderr=True, quiet=not self.verbose)
        self._status: Callable[[str], None] = lambda text: None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Says what is being done, and notes how long it took."""
        start = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(name) as status:
                self._status = status.update
                yield
        else:
            self._console.print(name)
            self._status = self._console.print
            yield
        self.seconds[name] = round(time.monotonic() - start, 1)

    def read(
        self, data: Any, wanted: str | None, image_size: tuple[int, int] | None
    ) -> None:
        """Reads and splits the samples; fixes sizes; finds the range of pixels."""
        ports = Signature.of(self.model).inputs
        arrays = inputs.read(data, ports, self.seed, image_size)
        shapes = [(port.shape[0], *arrays[port.name].shape[1:]) for port in ports]
        fixed = [port.shape for port in ports] != shapes
        self.dense = copy_of(self.model, shapes if fixed else None)
        self.signature = Signature.of(self.dense)
        # A copy may have other names for what has none of its user's.
        names = [port.name for port in self.signature.inputs]
        arrays = dict(zip(names, arrays.values(), strict=True))
        for port, shape in zip(ports, shapes, strict=True):
            if port.shape != shape:
                self.notes.append(
                    f"the input {port.name!r} of shape {port.shape[1:]} is fixed to "
                    f"the samples' {shape[1:]} in both networks"
                )
        if inputs.is_folder(data):
            ((name, images),) = arrays.items()
            found, reason = ranges.find_range(self.dense, images[:128], wanted)
            arrays = {name: ranges.rescaled(images, found)}
            self.notes.append(f"pixels are passed as {found}: {reason}")
        # What the network gives before its last activations.
        self.judge = without_last_activations(self.dense)
        self.parts = inputs.split(arrays, self.seed)
        self.x, self.x_validation = (
            packed(self.signature, part)
            for part in (self.parts.training, self.parts.validation)
        )
        self.y, self.y_validation = (
            self.judge.predict(part, verbose=0) for part in (self.x, self.x_validation)
        )
        self.loss = losses(self.judge, self.y)
        self.settings = {
            "model": work.fingerprint_of_model(self.dense),
            "data": work.fingerprint_of_data(arrays),
            "budget": repr(self.budget),
            "round_to": repr(self.round_to),
            "seed": self.seed,
        }

    def prune_once(self, folder: Path, seconds: float) -> keras.Model:
        """The compacted network, before any training."""
        seconds = seconds or 60.0
        path = folder / "pruned.keras"
        if path.exists():
            return keras.models.load_model(path, compile=False)
        with self.step("measuring which filters matter"):
            choice = choosing.measure(
                copy_of(self.judge),
                self.x,
                self.y,
                self.loss,
                seconds,
                folder / "sensitivity.json",
                self.verbose and self._console.is_terminal,
            )
        if choice is None:
            self.notes.append(
                "filters were chosen by their norms: to measure which matter would "
                "have taken too long"
            )
        with self.step("pruning"):
            copy = copy_of(self.dense)
            budget = self.budget if choice is None else choice.spent(self.budget)
            criterion = "l2" if choice is None else choice.criterion
            pruned = wrap(
                copy,
                budget,
                criterion=criterion,
                round_to=self.round_to,
                seed=self.seed,
            )
            pruned.apply_masks()
            self._repair(copy, seconds)
            small = compact(pruned)
        with staged(folder) as staging:
            small.save(staging / path.name)
        return small

    def _repair(self, pruned: keras.Model, seconds: float) -> None:
        """Puts statistics right, or kernels, or both: whatever comes nearest."""
        network = without_last_activations(pruned)
        network.compile(loss=self.loss)
        few = tree.map_structure(lambda x: x[:1024], self.x)
        found: list[tuple[float, list[np.ndarray]]] = []

        def note() -> None:
            figures = network.evaluate(
                self.x_validation, self.y_validation, verbose=0, return_dict=True
            )
            found.append((float(figures["loss"]), network.get_weights()))

        before = network.get_weights()
        recalibrate(network, few)
        note()
        network.set_weights(before)
        if reconstruct(self.judge, network, self.x, seconds / 2, self.seed):
            note()
            recalibrate(network, few)
            note()
        _, best = min(found, key=lambda pair: (np.isnan(pair[0]), pair[0]))
        pruned.set_weights(best)

    def mend(self, folder: Path, small: keras.Model, seconds: float) -> keras.Model:
        """The network after it has learned from the dense one."""
        small, progress = mending.mend(
            small,
            (self.x, self.y),
            (self.x_validation, self.y_validation),
            self.loss,
            seconds,
            folder,
            self._status,
        )
        self.history = progress.history
        return small

    def errors(self, small: keras.Model) -> tuple[OutputError, ...]:
        """How far a network's outputs are from the dense one's on held-out samples."""
        return compare_outputs(self.signature, Signature.of(small), self.parts.held_out)

    def finish(
        self,
        small: keras.Model,
        before: tuple[OutputError, ...],
        files: Mapping[str, Any],
    ) -> PruningResult:
        """Exports both networks, as `files` says, and writes the page."""
        exports: dict[str, ExportReport] = {}
        calibration = self.parts.training if files["quantize"] else None
        for name, network in (("dense", self.dense), ("small", small)):
            with self.step(f"exporting the {name} network"):
                exports[name] = export(
                    network,
                    self.directory / name,
                    **files,
                    representative_data=calibration,
                    verification_data=self.parts.held_out,
                    verbose=False,
                )
        with self.step("writing the report"), staged(self.directory) as folder:
            small.save(folder / "small.keras")
            comparison = dataclasses.replace(
                compare(self.dense, small, self.parts.held_out),
                samples=samples.size(self.parts.held_out),
                outputs=self.errors(small),
            )
            page = report(
                self.dense,
                small,
                history=self.history or None,
                exports=exports,
                data=self.parts.held_out,
                title=f"{self.model.name}: pruned without labels",
            )
            page.save(folder / "report.html")
        return PruningResult(
            small,
            comparison,
            before,
            exports,
            self.directory,
            tuple(self.notes),
            self.seconds,
        )
