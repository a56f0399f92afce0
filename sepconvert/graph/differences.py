"""What differs between two versions of a model: nodes by the values that they give out.

Two nodes are the same where output, operator, attributes, inputs and constants are. What stands in a node's place is
found backwards from the value that both versions give out, up to other values that both have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.provenance import PREFIX
from sepconvert.graph.uses import node_name

_BIASED = ("Conv", "ConvTranspose", "Gemm")
SAME, WEIGHTS, CHANGED, REPLACED = "same", "weights", "changed", "replaced"


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the original, by its output: what became of it, and the outputs of the nodes in its place.

    ``kind`` is ``same``, ``weights`` (only constants differ, or only one has a bias), ``changed`` (one other node) or
    ``replaced`` (several).
    ``facts`` are what the nodes in its place say of themselves.
    """

    kind: str
    outputs: tuple[str, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Differences:
    """Places by output, and names of nodes that only one version has; constants are no nodes."""

    places: Mapping[str, Place]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def find_differences(before: LoadedModel, after: LoadedModel) -> Differences:
    """Set two versions side by side; ``removed`` holds all nodes where they name their values differently."""
    old, new = _by_output(before), _by_output(after)
    shared = {*old, *(str(value.name) for value in before.ir.graph.inputs)}
    places = {}
    for output, node in old.items():
        if output in new:
            inside = _region(new[output], new, shared - {output})
            kind = _kind(node, new[output]) if len(inside) == 1 else REPLACED
            outputs = tuple(str(each.outputs[0].name) for each in inside)
            facts = {
                key.removeprefix(PREFIX): value
                for each in inside
                for key, value in each.metadata_props.items()
                if key.startswith(PREFIX)
            }
            places[output] = Place(kind, outputs, facts)
    added = tuple(_told(node) for output, node in new.items() if output not in old)
    removed = tuple(_told(node) for output, node in old.items() if output not in new)
    return Differences(places, added, removed)


def _by_output(model: LoadedModel) -> dict[str, ir.Node]:
    return {str(node.outputs[0].name): node for node in model.ir.graph if node.op_type != "Constant"}


def _told(node: ir.Node) -> str:
    return f"{node.op_type} {node_name(node)}"


def _region(node: ir.Node, new: Mapping[str, ir.Node], known: set[str]) -> list[ir.Node]:
    """The nodes between known values and a node, itself included, from the inputs on."""
    found: dict[ir.Node, None] = {}
    pending = [node]
    while pending:
        current = pending.pop()
        if current in found:
            continue
        found[current] = None
        for value in current.inputs:
            if value is not None and str(value.name) in new and str(value.name) not in known:
                pending.append(new[str(value.name)])
    return list(reversed(found))


def _kind(old: ir.Node, new: ir.Node) -> str:
    if old.op_type != new.op_type or old.domain != new.domain or _attributes(old) != _attributes(new):
        return CHANGED
    weights = False
    for place, (mine, theirs) in enumerate(zip_longest(old.inputs, new.inputs)):
        constants = _constant(mine), _constant(theirs)
        if None not in constants:
            weights = weights or not _equal(*constants)
        elif (mine and mine.name) != (theirs and theirs.name):
            # A layer that was refitted may have got a bias.
            if place != 2 or old.op_type not in _BIASED or constants == (None, None) or None not in (mine, theirs):
                return CHANGED
            weights = True
    return WEIGHTS if weights else SAME


def _attributes(node: ir.Node) -> dict[str, str]:
    """Attributes as text; those that spell out a default are as good as none."""
    told = {name: str(attribute.value) for name, attribute in node.attributes.items()}
    return {name: text for name, text in told.items() if text not in ("1", "NOTSET", "(1, 1)", "[1, 1]", "0")}


def _constant(value: ir.Value | None) -> Any:
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value
    maker = value.producer()
    return maker.attributes["value"].value if maker is not None and "value" in maker.attributes else None


def _equal(mine: Any, theirs: Any) -> bool:
    same = mine.dtype == theirs.dtype and tuple(mine.shape) == tuple(theirs.shape)
    return same and mine.tobytes() == theirs.tobytes()
