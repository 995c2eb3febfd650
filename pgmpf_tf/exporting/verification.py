"""Holds an artifact's outputs against the model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgmpf_tf.exporting.interface import Arrays
from pgmpf_tf.exporting.report import VerificationError


@dataclass(frozen=True)
class Deviation:
    """How far outputs are from the reference; the fields are those of `Artifact`."""

    largest: float
    mean: float
    agreement: float | None


def measure(outputs: Arrays, reference: Arrays) -> Deviation:
    """The deviation of outputs, by name, from the reference.

    Raises:
        VerificationError: names or shapes differ.
    """
    shapes = {name: array.shape for name, array in outputs.items()}
    expected = {name: array.shape for name, array in reference.items()}
    if shapes != expected:
        raise VerificationError(
            f"the artifact has the outputs {shapes}, the model has {expected}"
        )
    largest, means, agreements = [], [], []
    for name, wanted in reference.items():
        got, wanted = outputs[name].astype("float64"), wanted.astype("float64")
        distance = _distance(got, wanted)
        largest.append(float(np.max(distance)))
        means.append(float(np.mean(distance)))
        if wanted.ndim >= 2 and wanted.shape[-1] > 1:
            same = np.argmax(got, axis=-1) == np.argmax(wanted, axis=-1)
            agreements.append(float(np.mean(same)))
    # np.max, unlike max, lets a NaN through.
    return Deviation(
        float(np.max(largest)),
        float(np.max(means)),
        min(agreements) if agreements else None,
    )


def _distance(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The distance of each entry, relative to the largest wanted one.

    Infinities and NaNs that the model has too are no distance; any other is NaN or
    infinite.
    """
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    magnitude = np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0.0)
    scale = max(magnitude, np.finfo("float32").tiny)
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(got - wanted) / scale)


def check(
    what: str,
    deviation: Deviation,
    tolerance: float | None,
    min_agreement: float | None,
) -> None:
    """Raises if a deviation is over a bound; None is no bound.

    Raises:
        VerificationError: it is; the message has both numbers.
    """
    # Written so that a NaN fails.
    if tolerance is not None and not deviation.largest <= tolerance:
        raise VerificationError(
            f"{what} deviates from the model by {deviation.largest:.2e} of its largest "
            f"output; at most tolerance={tolerance:g} is allowed. It was not kept."
        )
    agreement = deviation.agreement
    if None not in (min_agreement, agreement) and not agreement >= min_agreement:
        raise VerificationError(
            f"{what} and the model agree on the top-1 class of {agreement:.1%} of the "
            f"samples; at least min_agreement={min_agreement:g} is wanted. It was not "
            "kept. Give representative_data like the data it will see, or allow less."
        )
