"""The fate of one site: which form, at which rank, written how."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Scheme:
    """How a convolution is made separable: form (key of ``FORMS``), rank, lowering.

    Plans, times, fits and records hold it; what it costs follows from it and the convolution's geometry.
    """

    form: str
    rank: int
    lowering: str
