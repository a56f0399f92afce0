"""Everything a plan depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.data import Dataset
from sepconvert.graph.sites import ConvSite
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.request import Request


@dataclass(frozen=True, slots=True)
class Case:
    """What was asked, the model opened, the sites that may be rewritten, and inputs.

    ``calibration`` are inputs to fit to, ``sample`` those to time with; either may be None.
    """

    request: Request
    opened: OpenedModel
    sites: Sequence[ConvSite]
    calibration: Dataset | None
    sample: Dataset | None
