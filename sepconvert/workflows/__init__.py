"""The workflows behind every command, and the public Python API: the only place that composes the rooms.

``analyze`` surveys a model, ``rewrite`` makes it separable, ``compare`` judges two models on the same inputs,
``render`` writes the page of a record, ``doctor`` describes the machine.
"""

from sepconvert.workflows.analyze import analyze
from sepconvert.workflows.compare import Gate, check_gate, compare, parse_gate
from sepconvert.workflows.doctor import doctor
from sepconvert.workflows.options import Measure, Target
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.render import render
from sepconvert.workflows.rewrite import RewriteResult, rewrite

__all__ = [
    "Gate",
    "Measure",
    "Outputs",
    "RewriteResult",
    "Target",
    "analyze",
    "check_gate",
    "compare",
    "doctor",
    "parse_gate",
    "render",
    "rewrite",
]
