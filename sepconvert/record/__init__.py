"""Plain result types, and their versioned JSON.

A ``Record`` is everything one command found out: what pages, tables and gates are made of. Unknown figures are None
(``null``), never 0. MACs are multiply-adds per sample; FLOPs are 2·MACs; times are milliseconds; sizes are bytes.
"""

from sepconvert.record.document import SCHEMA, Record
from sepconvert.record.measured import (
    Environment,
    Fidelity,
    Latency,
    OutputFidelity,
    Plan,
    SampleImages,
    SelfCheck,
    Sweep,
    SweepPoint,
    Timing,
    Tool,
)
from sepconvert.record.network import (
    GraphNode,
    InputInfo,
    ModelFile,
    NetworkGraph,
    RankError,
    SiteRecord,
    Skip,
    Totals,
    TotalsPair,
    Uncounted,
)

__all__ = [
    "SCHEMA",
    "Environment",
    "Fidelity",
    "GraphNode",
    "InputInfo",
    "Latency",
    "ModelFile",
    "NetworkGraph",
    "OutputFidelity",
    "Plan",
    "RankError",
    "Record",
    "SampleImages",
    "SelfCheck",
    "SiteRecord",
    "Skip",
    "Sweep",
    "SweepPoint",
    "Timing",
    "Tool",
    "Totals",
    "TotalsPair",
    "Uncounted",
]
