"""What a format is: everything `export` has to know of one kind of file."""

from __future__ import annotations

import abc
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pgmpf_tf.exporting.results import LayerError
from pgmpf_tf.exporting.signature import Arrays, Runner, Signature


@dataclass(frozen=True)
class Precision:
    """How the numbers of a file are held.

    Attributes:
        name: `"float32"`, or one of a format's `precisions`.
        calibration: samples that set the ranges of the activations, where they become
            integers; None for a model that brings its own ranges.
        integer_io: whether inputs and outputs are integers too.
    """

    name: str = "float32"
    calibration: Arrays | None = None
    integer_io: bool = False


class Format(abc.ABC):
    """One kind of file (or folder): how it is written, loaded and run.

    The libraries of a format are imported inside its methods: `pgmpf_tf` works without
    them.

    Attributes:
        name: what users call it.
        file: the name of its artifact in float32.
        precisions: which others it can be written in.
        packages: what must be importable to write it and to load it again.
        extra: the extra of `pgmpf_tf` that installs those, if one does.
        deployed: whether it is what runs in production, so that its time counts.
        legacy: whether a `tf_keras` model can be written too.
        needs_tensorflow: whether it is written on Keras' TensorFlow backend only: on
            the others by another process.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str | None] = None
    deployed: ClassVar[bool] = True
    legacy: ClassVar[bool] = False
    needs_tensorflow: ClassVar[bool] = True

    @abc.abstractmethod
    def write(self, signature: Signature, path: Path, precision: Precision) -> None:
        """Writes the artifact.

        Args:
            signature: the model, and the names and shapes it is called with.
            path: the file or folder, which is not there yet.
            precision: one that the format has.

        Raises:
            ValueError: the format cannot hold the model.
        """

    @abc.abstractmethod
    def load(self, path: Path) -> Runner:
        """Loads an artifact with the software that will run it."""

    def inference(self, path: Path, arrays: Arrays) -> Callable[[], object]:
        """One inference, to be timed."""
        runner = self.load(path)
        return lambda: runner(arrays)

    def layer_errors(
        self, signature: Signature, path: Path, arrays: Arrays
    ) -> tuple[LayerError, ...]:
        """What each operation of an artifact adds to its error, where that is known.

        Args:
            signature: what was written.
            path: the artifact, in a precision of integers.
            arrays: samples.
        """
        return ()

    def file_name(self, precision: str) -> str:
        """The name of its artifact."""
        if precision == "float32":
            return self.file
        stem, dot, suffix = self.file.partition(".")
        return f"{stem}_{precision}{dot}{suffix}"

    def check_installed(self) -> None:
        """Raises ImportError, with what to install, if a package is missing."""
        missing = [p for p in self.packages if not _is_importable(p)]
        if missing:
            what = f"'pgmpf_tf[{self.extra}]'" if self.extra else " ".join(missing)
            raise ImportError(
                f"The format {self.name!r} needs {', '.join(missing)}, which cannot be "
                f"imported. Install with: pip install {what}"
            )


def _is_importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module that was taken out of `sys.modules`
        return False
