"""How much is looked at: what a plan and a fit deserve, or with ``--quick`` what a first answer can do with.

Quick looks at fewer inputs and at fewer positions in them, estimates without fits what layers lose (with INT8 by fits
at two ranks of a form), times layers for a moment, takes a plan that is up to a tenth faster than asked, lets fits take
fewer steps, and times whole models for a third as long, so that intervals are wider. Of INT8 it looks at fewer inputs,
ranges, parts and mixtures.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sepconvert.data import Dataset
from sepconvert.fitting.refit import RefitSettings
from sepconvert.fitting.sampling import Sampling
from sepconvert.planning.profile import EFFORT
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.speedup import ROUGH_SURPLUS, SURPLUS
from sepconvert.record import Note
from sepconvert.separable.threads import cores
from sepconvert.workflows.request import Request

if TYPE_CHECKING:
    from sepconvert.planning.latencies import SiteEffort
    from sepconvert.planning.site_timing import Effort
    from sepconvert.runtime.timing import Length

INPUTS = 96
"""Calibration inputs that a first answer looks at."""
FEWEST_INPUTS = 8
WORK = 3e11
"""Multiply-adds that one run of a network on all inputs may take: a few seconds'. More, and fewer inputs will do."""
JUDGED = 1e11
"""The same of what it is judged on."""
_PROFILE = replace(
    EFFORT,
    inputs=32,
    replayed=16,
    replayed_values=60_000,
    least_evaluations=2,
    most_evaluations=6,
    finishing=0,
    work=3e9,
    answered=8,
    probes=1,
    fits=False,
    sampling=Sampling(per_term=0.5, least=2_000, heldout=1_000),
)
_REFIT = RefitSettings(
    ridges=(1e-2,), sampling=Sampling(per_term=2.0, least=5_000, heldout=1_500), evaluations=10, asks_for_inputs=False
)


@dataclass(frozen=True, slots=True)
class Int8Effort:
    """How much INT8 is looked at.

    Attributes:
        inputs: that ranges are found on.
        methods: ways to find ranges; None for all there are.
        parts: of a model that are told apart at most; it is looked at in ``first_parts`` first.
        sampled: inputs that parts are judged on.
        plans: mixtures of float and INT8 that are measured, and ``corrected`` more where none keeps the limit.
        timed: how long models are timed, as a share of what is usual.
    """

    inputs: int = 256
    methods: tuple[str, ...] | None = None
    parts: int = 32
    first_parts: int = 10
    sampled: int = 16
    plans: int = 5
    corrected: int = 3
    timed: float = 1.0


_INT8 = Int8Effort(
    inputs=32, methods=("percentile", "mse"), parts=12, first_parts=6, sampled=6, plans=3, corrected=1, timed=0.3
)


def first_answer(request: Request, calibration: Dataset | None, test: Dataset | None) -> Note:
    """Say that an answer is a first one, and how many inputs it was fitted to and judged on."""
    said = [] if calibration is None else [f"fitted to {calibration.count} calibration inputs"]
    said += [f"judged on {test.count} others"] if said and test is not None else []
    said += ["times taken for a moment"] if request.measure.latency else []
    return Note(
        f"This is a first answer (--quick): {', '.join([*said, 'fits of fewer steps'])}. The error that it "
        "predicts is rough: measured ones were between a third of it and eight times as large. Without --quick the "
        "same budget loses less."
    )


def looked_at(
    request: Request, calibration: Dataset | None, test: Dataset | None, macs: int | None
) -> tuple[Dataset | None, Dataset | None]:
    """The inputs to fit to and to judge on, of a model that takes so many multiply-adds for each.

    A first answer fits to some of the calibration inputs. Without test inputs, and where nothing is trained on them, it
    is judged on the others: what is fitted to few errs much less on these. A metric is asked about all test inputs: of
    a few it may have nothing to say.
    """
    if not request.planning.quick:
        return calibration, test
    rng = np.random.default_rng(request.seed)
    fitted, judged = (max(work / max(macs or 1, 1), FEWEST_INPUTS) for work in (WORK, JUDGED))
    fitted = min(fitted, INPUTS)
    if calibration is not None and calibration.count > fitted:
        left = calibration.count - FEWEST_INPUTS
        whole = calibration.count >= 2 * (calibration.batch or 1) and left >= FEWEST_INPUTS
        if test is None and request.fine_tune is None and whole:
            test, calibration = calibration.split(min(fitted, left) / calibration.count, rng)
        else:
            calibration = calibration.sample(int(fitted), rng)
    if test is not None and request.measure.metric is None and test.count > judged:
        test = test.sample(int(judged), rng)
    return calibration, test


def profile_effort(request: Request, *, int8: bool = False) -> ProfileEffort:
    """How much a profile looks at; ``int8``: at what rounding costs, too."""
    effort = _PROFILE if request.planning.quick else EFFORT
    if not int8:
        return effort
    from sepconvert.runtime.quantise import types_here

    # What rounding costs is told of factors that are fitted.
    return replace(effort, bits=types_here().weight_bits, fits=True)


def refit_settings(request: Request) -> RefitSettings:
    """How the layers are fitted."""
    return replace(_REFIT if request.planning.quick else RefitSettings(), threads=cores())


def int8_effort(request: Request) -> Int8Effort:
    """How much INT8 is looked at."""
    return _INT8 if request.planning.quick else Int8Effort()


def surplus_allowed(request: Request) -> float:
    """How much faster than asked a plan may be, as a ratio."""
    return ROUGH_SURPLUS if request.planning.quick else SURPLUS


def site_effort(request: Request) -> "SiteEffort":
    """How long single layers are timed."""
    from sepconvert.planning.latencies import BRIEF_SITES, SiteEffort

    return BRIEF_SITES if request.planning.quick else SiteEffort()


def timing_length(request: Request) -> "Length":
    """How long whole models are timed."""
    from sepconvert.runtime.timing import BRIEF_LENGTH, LENGTH

    return BRIEF_LENGTH if request.planning.quick else LENGTH


def architecture_effort(request: Request) -> "Effort":
    """How long a planned network is timed, with one pair of sessions."""
    from sepconvert.planning.architecture import BRIEF, EFFORT

    return BRIEF if request.planning.quick else EFFORT
