"""The workflows behind every command, and the public Python API: the only place that composes the rooms.

``analyze`` surveys a model, ``rewrite`` makes it separable, ``compare`` judges two models on the same inputs,
``render`` writes the page of a record, ``doctor`` describes the machine. Each is imported when it is first used: to
survey a model takes less time than to import what fits it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepconvert.workflows.analyze import analyze
    from sepconvert.workflows.compare import Gate, check_gate, compare, parse_gate
    from sepconvert.workflows.doctor import doctor
    from sepconvert.workflows.options import Measure, Target
    from sepconvert.workflows.outputs import Outputs
    from sepconvert.workflows.render import render
    from sepconvert.workflows.rewrite import RewriteResult, rewrite

_HOMES = {
    "Gate": "compare",
    "Measure": "options",
    "Outputs": "outputs",
    "RewriteResult": "rewrite",
    "Target": "options",
    "analyze": "analyze",
    "check_gate": "compare",
    "compare": "compare",
    "doctor": "doctor",
    "parse_gate": "compare",
    "render": "render",
    "rewrite": "rewrite",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sepconvert.workflows' has no attribute '{name}'")
    value = getattr(import_module(f"sepconvert.workflows.{_HOMES[name]}"), name)
    globals()[name] = value  # importing the module has put the module itself under its workflow's name
    return value
