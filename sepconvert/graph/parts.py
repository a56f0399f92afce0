"""Cut a model out of a model: from these values to those, as bytes that a runtime can open.

The part keeps the value names, opsets and functions of the whole, so a site in it is still found by its output's name.
Nothing of the given model is changed; tensors are shared until they are serialised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.discard import discard_unused
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import computed_value, node_inputs, summand, values_by_name
from sepconvert.number_types import rounded


class Sized(Protocol):
    """An array, or what stands for one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its numpy type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        ...


@dataclass(frozen=True, slots=True)
class ValueType:
    """What is known of a value that is fed: its numpy type, and its dimensions, None where they differ or are unknown.

    Some operators must know how many numbers they are given before they run: the sizes of a Resize, for instance.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]

    @staticmethod
    def of(*arrays: Sized) -> "ValueType":
        """Return what arrays of one type and number of dimensions have in common."""
        sides = zip(*(array.shape for array in arrays), strict=True)
        return ValueType(arrays[0].dtype, tuple(side[0] if len(set(side)) == 1 else None for side in sides))


def extract(model: LoadedModel, inputs: Mapping[str, ValueType], outputs: Sequence[str]) -> LoadedModel:
    """Return the part of a model that computes ``outputs`` from ``inputs``.

    Args:
        model: the whole, in topological order.
        inputs: values to be fed, by name. Those that no output depends on are left out of the part's inputs.
        outputs: names of values that nodes of the main graph compute.

    Raises:
        ModelError: an output is not computed in the main graph, or needs a model input that is not in ``inputs``.
    """
    whole = model.ir
    wanted = [computed_value(model, name) for name in outputs]
    nodes, leaves = _between(whole.graph, wanted, set(inputs))
    fed = [value for value in leaves if value.name in inputs]
    constants = [value for value in leaves if value.name not in inputs]
    for value in constants:
        if not value.is_initializer():
            raise ModelError(
                f"'{outputs[0]}' cannot be computed from {', '.join(inputs)}: it needs '{value.name}' too."
            )
    view = ir.GraphView(
        fed, wanted, nodes=nodes, initializers=constants, opset_imports=whole.graph.opset_imports, name="part"
    )
    graph = view.clone()
    for value in graph.inputs:
        given = inputs[str(value.name)]
        value.type = ir.TensorType(ir.DataType.from_numpy(given.dtype))
        value.shape = ir.Shape(given.shape)
        value.const_value = None
    functions = [function.clone() for function in whole.functions.values()]
    return LoadedModel(ir.Model(graph, ir_version=whole.ir_version, functions=functions))


@dataclass(frozen=True, slots=True)
class NewKernel:
    """Another weight (M, C/g, *kernel) and bias (M,) of a layer; None leaves its own bias."""

    site: ConvSite
    kernel: NDArray[np.floating]
    bias: NDArray[np.floating] | None


def with_kernels(model: LoadedModel, kernels: Sequence[NewKernel]) -> LoadedModel:
    """Return a copy of a model in which some layers carry another weight and bias, rounded to the site's type.

    Args:
        model: stays as it is.
        kernels: a layer without a bias must be one whose operator takes one.

    Raises:
        ModelError: a layer is not one of the main graph's.
    """
    copy = model.ir.clone()
    nodes = {str(value.name): node for node in copy.graph for value in node.outputs}
    for new in kernels:
        site = new.site
        if site.product not in nodes or nodes[site.product].op_type != site.notation.operator:
            raise ModelError(f"'{site.output}' is not the output of a layer in the main graph.")
        product, last = nodes[site.product], nodes[site.output]
        weight = rounded(site.stored(new.kernel), site.dtype)
        _put(copy, product, 1, f"{site.output}_refitted_weight", weight)
        if new.bias is not None:
            added = None if last is product else summand(product)
            place = 2 if added is None else list(last.inputs).index(added.value)
            _put(copy, last, place, f"{site.output}_refitted_bias", rounded(new.bias, site.dtype))
    return replace(model, ir=copy, sha256=None, bytes=None)


def _put(model: ir.Model, node: ir.Node, place: int, hint: str, array: NDArray[np.floating]) -> None:
    """Give a node another constant as an input, and forget the old one where nothing else reads it."""
    if len(node.inputs) <= place:
        node.resize_inputs(place + 1)
    old = node.inputs[place]
    node.replace_input_with(place, _add_initializer(model.graph, hint, array))
    if old is not None and old not in model.graph.inputs:
        discard_unused(model, old)


def _add_initializer(graph: ir.Graph, hint: str, array: NDArray[np.floating]) -> ir.Value:
    taken, name = values_by_name(graph), hint
    while name in taken:
        name += "_"
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def _between(graph: ir.Graph, wanted: Sequence[ir.Value], stop: set[str]) -> tuple[list[ir.Node], list[ir.Value]]:
    """Return the nodes behind ``wanted``, in the graph's order, and the values they start from."""
    nodes: set[ir.Node] = set()
    leaves: dict[ir.Value, None] = {}
    stack = list(wanted)
    while stack:
        value = stack.pop()
        producer = value.producer()
        if producer is None or value.name in stop:
            leaves[value] = None
        elif producer not in nodes:
            nodes.add(producer)
            stack += node_inputs(producer)
    return [node for node in graph if node in nodes], list(leaves)
