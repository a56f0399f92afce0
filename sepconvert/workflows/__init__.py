"""The workflows behind every command, and the public Python API: the only place that composes the rooms.

``analyze`` surveys a model, ``rewrite`` makes it separable, ``sweep`` does so under several budgets, ``compare`` judges
two models on the same inputs, ``rebuild`` makes a rewritten PyTorch module from its files, ``render`` writes the page
of a record, ``doctor`` describes the machine. Each is imported when it is first used: to survey a model takes less time
than to import what fits it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepconvert.data import Preprocess
    from sepconvert.workflows.analysis import analyze
    from sepconvert.workflows.comparison import compare
    from sepconvert.workflows.diagnosis import doctor
    from sepconvert.workflows.modules import rebuild
    from sepconvert.workflows.options import FineTune, Measure, Planning, Reading
    from sepconvert.workflows.outputs import Outputs
    from sepconvert.workflows.rendering import render
    from sepconvert.workflows.result import RewriteResult
    from sepconvert.workflows.rewriting import rewrite
    from sepconvert.workflows.sweeping import sweep

_HOMES = {
    "FineTune": "options",
    "Measure": "options",
    "Outputs": "outputs",
    "Planning": "options",
    "Preprocess": "options",
    "Reading": "options",
    "RewriteResult": "result",
    "analyze": "analysis",
    "compare": "comparison",
    "doctor": "diagnosis",
    "rebuild": "modules",
    "render": "rendering",
    "rewrite": "rewriting",
    "sweep": "sweeping",
}

__all__ = [
    "FineTune",
    "Measure",
    "Outputs",
    "Planning",
    "Preprocess",
    "Reading",
    "RewriteResult",
    "analyze",
    "compare",
    "doctor",
    "rebuild",
    "render",
    "rewrite",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sepconvert.workflows' has no attribute '{name}'")
    return getattr(import_module(f"sepconvert.workflows.{_HOMES[name]}"), name)
