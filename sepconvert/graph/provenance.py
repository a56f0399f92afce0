"""What a written model says about itself: where it came from, and of each new node what it stands for.

Everything stands in ``metadata_props``, which Netron and Model Explorer show. Those of nodes were added to ONNX with IR
version 10; a reader of an older version skips fields that it does not know, so the version stays what it was.
"""

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel

PREFIX = "sepconvert."
LAYER = f"{PREFIX}layer"
"""The output of the layer in whose place a node stands."""


def mark(node: ir.Node, output: str, facts: Mapping[str, object]) -> None:
    """Write on a new node which layer it stands for, and facts about it by name."""
    node.metadata_props[LAYER] = output
    node.metadata_props.update(_spelled(facts))


def with_provenance(
    model: LoadedModel, facts: Mapping[str, object], by_layer: Mapping[str, Mapping[str, object]]
) -> LoadedModel:
    """Return a copy that says more about itself.

    Args:
        model: the rewritten model.
        facts: about the whole, by name; what is None is left out.
        by_layer: about the nodes in the place of a layer, by its output; what is None is left out.
    """
    copy = model.ir.clone()
    copy.metadata_props.update(_spelled(facts))
    for node in copy.graph:
        node.metadata_props.update(_spelled(by_layer.get(node.metadata_props.get(LAYER, ""), {})))
    return replace(model, ir=copy)


def _spelled(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts as text; a file name that is no text stands with its bytes as escapes."""
    told = {name: str(value) for name, value in facts.items() if value is not None}
    return {f"{PREFIX}{name}": text.encode("utf-8", "backslashreplace").decode() for name, text in told.items()}
