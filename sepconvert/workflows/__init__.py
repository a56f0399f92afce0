"""The workflows behind every command, and the public Python API: the only place that composes the rooms.

``analyze`` surveys a model, ``rewrite`` makes it separable, ``sweep`` does so under several budgets, ``compare`` judges
two models on the same inputs, ``rebuild`` makes a rewritten PyTorch module from its files, ``render`` writes the page
of a record, ``doctor`` describes the machine. Each is imported when it is first used: to survey a model takes less time
than to import what fits it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepconvert.workflows.analysis import analyze
    from sepconvert.workflows.comparison import Gate, check_gate, compare, parse_gate
    from sepconvert.workflows.diagnosis import doctor
    from sepconvert.workflows.modules import rebuild
    from sepconvert.workflows.options import FineTune, Measure, Planning, Target
    from sepconvert.workflows.outputs import Outputs
    from sepconvert.workflows.rendering import render
    from sepconvert.workflows.rewriting import RewriteResult, rewrite
    from sepconvert.workflows.sources import default_output
    from sepconvert.workflows.sweeping import sweep

_HOMES = {
    "FineTune": "options",
    "Gate": "comparison",
    "Measure": "options",
    "Outputs": "outputs",
    "Planning": "options",
    "RewriteResult": "rewriting",
    "Target": "options",
    "analyze": "analysis",
    "check_gate": "comparison",
    "compare": "comparison",
    "default_output": "sources",
    "doctor": "diagnosis",
    "parse_gate": "comparison",
    "rebuild": "modules",
    "render": "rendering",
    "rewrite": "rewriting",
    "sweep": "sweeping",
}

__all__ = [
    "FineTune",
    "Gate",
    "Measure",
    "Outputs",
    "Planning",
    "RewriteResult",
    "Target",
    "analyze",
    "check_gate",
    "compare",
    "default_output",
    "doctor",
    "parse_gate",
    "rebuild",
    "render",
    "rewrite",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sepconvert.workflows' has no attribute '{name}'")
    return getattr(import_module(f"sepconvert.workflows.{_HOMES[name]}"), name)
