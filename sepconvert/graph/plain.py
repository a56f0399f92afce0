"""A graph in plain Python: names, numbers and arrays, for readers that know nothing of onnx.

1. Calls of model-local functions are replaced by the functions' bodies.
2. Constants are the initializers and the results of ``Constant`` nodes, by value name; they are stored again, under the
   same names, by ``with_constants``. What lies inside a subgraph belongs to that subgraph.
3. A value that is missing (an optional input or output left out) is called ``""``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import node_inputs
from sepconvert.graph.weights import tensor_array

Constants = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PlainNode:
    """One node.

    ``opset`` is the version of ``domain`` that the model imports. ``attributes`` hold int, float, str, tuples of them,
    or arrays; graphs are in ``bodies``. ``captured`` are the values that the bodies take from the graph around them.
    """

    op_type: str
    domain: str
    opset: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    bodies: Mapping[str, "PlainGraph"]
    captured: tuple[str, ...]

    @property
    def label(self) -> str:
        """What to call the node in a message: names may be missing or repeated, its output's is neither."""
        made = next((name for name in self.outputs if name), "")
        return f"{self.op_type} '{self.name or made}'" + (f" (output '{made}')" if self.name and made else "")


@dataclass(frozen=True, slots=True)
class PlainGraph:
    """Nodes in topological order, with the graph's inputs that are no constants and all of its outputs."""

    nodes: tuple[PlainNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Constants


def plain_graph(model: LoadedModel) -> PlainGraph:
    """Describe a model's main graph; arrays of external data stay mapped from their files.

    Raises:
        ModelError: external data cannot be read.
    """
    graph = inlined(model).ir.graph
    return _graph(graph, graph.opset_imports)


def inlined(model: LoadedModel) -> LoadedModel:
    """Return a model without model-local functions: itself, or a copy in which their bodies stand for the calls."""
    if not model.ir.functions:
        return model
    copy = model.ir.clone()
    InlinePass()(copy)
    return replace(model, ir=copy, sha256=None, bytes=None)


def with_constants(model: LoadedModel, arrays: Constants) -> LoadedModel:
    """Return a copy of a model in which some constants hold other numbers.

    Args:
        model: stays as it is; tensors that do not change are shared.
        arrays: by the name of an initializer or of a ``Constant`` node's output; shape and type of the old one.

    Raises:
        ModelError: there is no such constant, or shape or type differ.
    """
    copy = model.ir.clone()
    values = _stored(copy.graph)
    for name, array in arrays.items():
        if name not in values:
            raise ModelError(f"'{name}' is no stored constant of the model's main graph.")
        _store(values[name], array)
    return replace(model, ir=copy, sha256=None, bytes=None)


def _stored(graph: ir.Graph) -> dict[str, ir.Value]:
    made = [node.outputs[0] for node in graph if _is_constant(node)]
    return {str(value.name): value for value in (*graph.initializers.values(), *made)}


def _store(value: ir.Value, array: NDArray[Any]) -> None:
    old = ir.convenience.get_const_tensor(value)
    assert old is not None
    dtype = ir.DataType.from_numpy(array.dtype)
    if tuple(old.shape.numpy()) != array.shape or old.dtype != dtype:
        raise ModelError(
            f"'{value.name}' is {old.dtype.name}{list(old.shape.numpy())}, "
            f"it cannot hold {dtype.name}{list(array.shape)}."
        )
    tensor = ir.tensor(array, name=value.name)
    node = value.producer()
    if node is None:
        value.const_value = tensor
        return
    node.attributes.clear()
    node.attributes["value"] = ir.AttrTensor("value", tensor)


def _graph(graph: ir.Graph, opsets: Mapping[str, int]) -> PlainGraph:
    return PlainGraph(
        nodes=tuple(_node(node, opsets) for node in graph if not _is_constant(node)),
        inputs=tuple(str(value.name) for value in graph.inputs if not value.is_initializer()),
        outputs=tuple(str(value.name) for value in graph.outputs),
        constants={name: _array(value) for name, value in _stored(graph).items()},
    )


def _is_constant(node: ir.Node) -> bool:
    return node.op_type == "Constant" and node.domain == ""


def _array(value: ir.Value) -> NDArray[Any]:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        raise ModelError(f"Constant '{value.name}' holds nothing that can be read; export the model again.")
    return tensor_array(tensor)


def _node(node: ir.Node, opsets: Mapping[str, int]) -> PlainNode:
    version = opsets.get(node.domain, opsets.get("ai.onnx", 0) if node.domain == "" else 0)
    inputs = tuple(_name(value) for value in node.inputs)
    captured = dict.fromkeys(str(value.name) for value in node_inputs(node) if value not in node.inputs)
    return PlainNode(
        op_type=node.op_type,
        domain=node.domain,
        opset=version,
        name=node.name or "",
        inputs=inputs,
        outputs=tuple(_name(value) for value in node.outputs),
        attributes={name: _attribute(attribute) for name, attribute in node.attributes.items() if not _body(attribute)},
        bodies=dict(_bodies(node, opsets)),
        captured=tuple(captured),
    )


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _body(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _bodies(node: ir.Node, opsets: Mapping[str, int]) -> Iterator[tuple[str, PlainGraph]]:
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH:
            yield name, _graph(attribute.as_graph(), opsets)
        elif attribute.type == ir.AttributeType.GRAPHS:
            for index, graph in enumerate(attribute.as_graphs()):
                yield f"{name}[{index}]", _graph(graph, opsets)


def _attribute(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return tensor_array(attribute.as_tensor())
    if attribute.type == ir.AttributeType.TENSORS:
        return tuple(tensor_array(tensor) for tensor in attribute.as_tensors())
    return tuple(attribute.value) if isinstance(attribute.value, (list, tuple)) else attribute.value
