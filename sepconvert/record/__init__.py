"""Plain result types, and their versioned JSON.

A ``Record`` is everything one command found out: what pages, tables and gates are made of. Unknown figures are None
(``null``), never 0. MACs are multiply-adds per sample; FLOPs are 2·MACs; times are milliseconds; sizes are bytes.

History of the schema; every version is still read:

1. The first.
2. ``forms`` lists the separable forms with what the page and the terminal say of them, and ``sites[].layers`` the
   layers in a site's place: a form that a reader does not know can be drawn. In a record of version 1 both are empty;
   ``workflows.render`` fills them in. ``totals`` have no ``element_ops`` any more: one operation per element of
   everything but multiply-adds said little, and nothing was decided by it.
   Added since, with defaults: ``layers`` (every layer, as a summary lists them; ``analyze`` only), ``separable`` (what
   is separable already), ``folds`` (sums that fold into pointwise layers), ``advice``, ``overlay`` (times of sites as
   Model Explorer's node data), ``files`` (what was read beside the model), ``notes`` (which were among the
   ``warnings``), ``integer_check``, ``changes`` (``compare`` only), ``inputs_given``, ``inputs_needed``;
   ``sites[].saving``, ``sites[].others`` (more layers of one weight), ``sites[].spectrum_form``;
   ``fidelity.choices``, ``fidelity.metric``, ``fidelity.most_changed``, ``fidelity.fitted``; ``skipped[].precision``,
   ``plan.alternatives[].floating`` and ``predicted_over_measured`` (float or INT8 by layers).
   A layer of ``graph`` may have the status ``already-separable``.
"""

from sepconvert.record.difference import FASTER, NONE, SLOWER, tell_apart
from sepconvert.record.document import SCHEMA, Record
from sepconvert.record.fidelity import ChoiceFidelity, Fidelity, MetricFidelity, OutputFidelity, PartFidelity
from sepconvert.record.layers import (
    SEPARABLE,
    Fold,
    LayerChange,
    ModelChanges,
    ModelLayer,
    Saving,
    SeparablePair,
)
from sepconvert.record.measured import (
    ALONE,
    BOTH,
    ORIGINAL,
    REWRITTEN,
    Alternative,
    Environment,
    Latency,
    Plan,
    SampleImages,
    SelfCheck,
    Sweep,
    SweepPoint,
    Timing,
    Tool,
)
from sepconvert.record.network import (
    FormRecord,
    GraphNode,
    InputInfo,
    InputValues,
    LayerRecord,
    LayersRecord,
    ModelFile,
    NetworkGraph,
    RankError,
    SiteRecord,
    Skip,
    Totals,
    TotalsPair,
    Uncounted,
)
from sepconvert.record.notes import Note

__all__ = [
    "ALONE",
    "BOTH",
    "FASTER",
    "NONE",
    "ORIGINAL",
    "REWRITTEN",
    "SCHEMA",
    "SEPARABLE",
    "SLOWER",
    "Alternative",
    "ChoiceFidelity",
    "Environment",
    "Fidelity",
    "Fold",
    "FormRecord",
    "GraphNode",
    "InputInfo",
    "InputValues",
    "Latency",
    "LayerChange",
    "LayerRecord",
    "LayersRecord",
    "MetricFidelity",
    "ModelChanges",
    "ModelFile",
    "ModelLayer",
    "NetworkGraph",
    "Note",
    "OutputFidelity",
    "PartFidelity",
    "Plan",
    "RankError",
    "Record",
    "SampleImages",
    "Saving",
    "SelfCheck",
    "SeparablePair",
    "SiteRecord",
    "Skip",
    "Sweep",
    "SweepPoint",
    "Timing",
    "Tool",
    "Totals",
    "TotalsPair",
    "Uncounted",
    "tell_apart",
]
