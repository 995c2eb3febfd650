"""Holds an artifact's outputs against the model's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pgmpf_tf.exporting.results import OutputError, VerificationError
from pgmpf_tf.exporting.samples import run_in_batches
from pgmpf_tf.exporting.signature import Arrays, Signature


@dataclass(frozen=True)
class Bounds:
    """How far an artifact may be from the model; None is no bound.

    Attributes:
        tolerance: largest `OutputError.max_deviation`.
        min_agreement: least `OutputError.top1_agreement`, of outputs with classes.
        relative_error: largest `OutputError.relative_error`, of outputs that are not
            held to an agreement.
    """

    tolerance: float | None = None
    min_agreement: float | None = None
    relative_error: float | None = None


def measure(outputs: Arrays, reference: Arrays) -> tuple[OutputError, ...]:
    """The errors of outputs, by name, in the order of the reference.

    Raises:
        VerificationError: names or shapes differ.
    """
    shapes = {name: array.shape for name, array in outputs.items()}
    expected = {name: array.shape for name, array in reference.items()}
    if shapes != expected:
        raise VerificationError(
            f"the artifact has the outputs {shapes}, the model has {expected}"
        )
    return tuple(
        _error(name, outputs[name].astype("float64"), wanted.astype("float64"))
        for name, wanted in reference.items()
    )


def _error(name: str, got: np.ndarray, wanted: np.ndarray) -> OutputError:
    # What is not finite in both is no difference; in one, it stays NaN or infinite.
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(got - wanted))
    finite = wanted[np.isfinite(wanted)]
    magnitude = max(np.max(np.abs(finite), initial=0.0), np.finfo("float32").tiny)
    # An output that hardly varies is held to a part of its size.
    spread = max(float(np.std(finite)) if finite.size else 0.0, 1e-3 * magnitude)
    agreement = None
    if wanted.ndim >= 2 and wanted.shape[-1] > 1:
        classes = np.argmax(got, axis=-1), np.argmax(wanted, axis=-1)
        agreement = float(np.mean(classes[0] == classes[1]))
    return OutputError(
        name=name,
        max_deviation=float(np.max(difference) / magnitude),
        mean_deviation=float(np.mean(difference) / magnitude),
        relative_error=float(np.sqrt(np.mean(np.square(difference))) / spread),
        top1_agreement=agreement,
        correlation=_correlation(got, wanted),
    )


def _correlation(got: np.ndarray, wanted: np.ndarray) -> float | None:
    both = np.isfinite(got) & np.isfinite(wanted)
    got, wanted = got[both], wanted[both]
    if not got.size or not np.ptp(got) or not np.ptp(wanted):
        return None
    return float(np.corrcoef(got, wanted)[0, 1])


def compare_outputs(
    reference: Signature, other: Signature, samples: Arrays
) -> tuple[OutputError, ...]:
    """How far another model's outputs are from a reference's, output by output.

    Args:
        reference: the model to be held against.
        other: a model with as many inputs and outputs, of the same shapes.
        samples: inputs by the names of the reference.

    Raises:
        VerificationError: the numbers of inputs or outputs, or shapes, differ.
    """
    if (len(other.inputs), len(other.outputs)) != (
        len(reference.inputs),
        len(reference.outputs),
    ):
        raise VerificationError(
            f"one model has {len(reference.inputs)} inputs and "
            f"{len(reference.outputs)} outputs, the other {len(other.inputs)} and "
            f"{len(other.outputs)}"
        )
    named = {
        port.name: samples[own.name]
        for port, own in zip(other.inputs, reference.inputs, strict=True)
    }
    wanted = run_in_batches(reference.run, samples, reference)
    got = run_in_batches(other.run, named, other)
    renamed = dict(zip(reference.outputs, map(got.get, other.outputs), strict=True))
    return measure(
        {name: array for name, array in renamed.items() if array is not None}, wanted
    )


def check(what: str, errors: Iterable[OutputError], bounds: Bounds) -> None:
    """Raises if an output's error is over a bound.

    Raises:
        VerificationError: it is; the message has both numbers.
    """
    for error in errors:
        _check(f"The output {error.name!r} of {what}", error, bounds)


def _check(what: str, error: OutputError, bounds: Bounds) -> None:
    tolerance, least, most = (
        bounds.tolerance,
        bounds.min_agreement,
        bounds.relative_error,
    )
    # Written so that a NaN fails.
    if tolerance is not None and not error.max_deviation <= tolerance:
        raise VerificationError(
            f"{what} deviates from the model's by {error.max_deviation:.2e} of its "
            f"largest value; at most tolerance={tolerance:g} is allowed. It was not "
            "kept."
        )
    agreement = error.top1_agreement
    if least and agreement is not None:
        if not agreement >= least:
            raise VerificationError(
                f"{what} and the model's agree on the top-1 class of {agreement:.1%} "
                f"of the samples; at least min_agreement={least:g} is wanted. It was "
                "not kept. Give representative_data like the data it will see, or "
                "allow less; for an output that holds no scores of classes, give "
                "min_agreement=0."
            )
    elif most is not None and not error.relative_error <= most:
        raise VerificationError(
            f"{what} has an error of {error.relative_error:.1%} of the model's own "
            f"variation (root mean square over standard deviation); at most {most:.0%} "
            "is allowed. It was not kept. Give representative_data like the data it "
            "will see, or a tolerance that allows more."
        )
