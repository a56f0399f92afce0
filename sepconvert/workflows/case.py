"""Everything a plan depends on besides its budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.data import Dataset
from sepconvert.graph.sites import ConvSite
from sepconvert.progress import Progress, silent
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.options import FineTune, Measure, Planning, Target


@dataclass(frozen=True, slots=True)
class Case:
    """A model, the sites that may be rewritten, inputs, and how to plan and measure.

    ``calibration`` are inputs to fit to, ``sample`` those to time with; either may be None.
    """

    opened: OpenedModel
    sites: Sequence[ConvSite]
    target: Target
    calibration: Dataset | None
    sample: Dataset | None
    measure: Measure
    planning: Planning
    seed: int
    progress: Progress = silent
    fine_tune: FineTune | None = None
