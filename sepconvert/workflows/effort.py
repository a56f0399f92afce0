"""How much is looked at: what a plan and a fit deserve, or with ``--quick`` what a first answer can do with.

Quick looks at fewer inputs, at fewer positions in them, at two ranks of a form instead of three to five, and lets fits
take fewer steps. Whole models are timed for a third as long, so that intervals are wider (``seconds_of_timing``).
"""

from dataclasses import replace

import numpy as np

from sepconvert.data import Dataset
from sepconvert.fitting.refit import RefitSettings
from sepconvert.fitting.sampling import Sampling
from sepconvert.planning.profile import EFFORT
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.record import Note
from sepconvert.separable.threads import cores
from sepconvert.workflows.request import Request

INPUTS = 96
"""Calibration inputs that a first answer looks at."""
QUICK = Note(
    f"This is a first answer (--quick): at most {INPUTS} calibration inputs were looked at, and fits took fewer steps. "
    "Without --quick the same budget loses less."
)
_PROFILE = replace(
    EFFORT,
    inputs=32,
    replayed=16,
    replayed_values=60_000,
    ranks=2,
    least_evaluations=2,
    most_evaluations=6,
    finishing=0,
    work=3e9,
    closer=float("inf"),
    sampling=Sampling(per_term=1.0, least=2_000, heldout=1_000),
)
_REFIT = RefitSettings(
    ridges=(1e-2,), sampling=Sampling(per_term=2.0, least=5_000, heldout=1_500), evaluations=10, asks_for_inputs=False
)


def seen(request: Request, calibration: Dataset | None) -> Dataset | None:
    """The calibration inputs that are looked at."""
    if calibration is None or not request.planning.quick:
        return calibration
    return calibration.sample(INPUTS, np.random.default_rng(request.seed))


def profile_effort(request: Request, *, int8: bool = False) -> ProfileEffort:
    """How much a profile looks at; ``int8``: at what rounding costs, too."""
    effort = _PROFILE if request.planning.quick else EFFORT
    if not int8:
        return effort
    from sepconvert.runtime.quantise import types_here

    return replace(effort, bits=types_here().weight_bits)


def refit_settings(request: Request) -> RefitSettings:
    """How the layers are fitted."""
    return replace(_REFIT if request.planning.quick else RefitSettings(), threads=cores())
