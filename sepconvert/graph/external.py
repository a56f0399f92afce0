"""Tensors in files beside the model: read when they are asked for, and never kept open.

onnx-ir maps such a file into memory, once for each tensor. A mapping holds a file descriptor, of which a process has
about a thousand, and cannot be closed while an array anywhere still looks at it. So each read here is a copy.
"""

from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)


class FileTensor(ir.ExternalTensor):
    """An external tensor that closes its file after every read."""

    __slots__ = ()

    def numpy(self) -> NDArray[Any]:
        """Return a copy of what the file holds."""
        try:
            array: NDArray[Any] = super().numpy().copy()
        finally:
            self.release()
        return array

    def tobytes(self) -> bytes:
        """Return the bytes in the file."""
        try:
            data: bytes = super().tobytes() if self.size else b""
        finally:
            self.release()
        return data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of what the file holds, as another type if one is given."""
        return self.numpy().astype(dtype, copy=False)


def all_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Yield all tensors: initializers of the graph and its subgraphs, and node attributes."""
    for graph in model.graphs():
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
    for node in _nodes(model):
        for _, attribute in _tensor_attributes(node):
            yield from [attribute.as_tensor()] if attribute.type == _TENSORS[0] else attribute.as_tensors()


def read_on_demand(model: ir.Model) -> None:
    """Let every external tensor of a model be a ``FileTensor``."""
    _change_initializers(model, _on_demand)
    _change_attributes(model, _on_demand)


def load_external(model: ir.Model, *, initializers: bool = True) -> None:
    """Bring the external tensors of a model into memory, those in initializers too or only those in attributes."""
    if initializers:
        _change_initializers(model, _in_memory)
    _change_attributes(model, _in_memory)


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy(), name=tensor.name, dtype=tensor.dtype)


def _on_demand(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return FileTensor(
        tensor.location,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        base_dir=tensor.base_dir,
    )


def _change_initializers(model: ir.Model, change: Callable[[ir.ExternalTensor], ir.TensorProtocol]) -> None:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = change(value.const_value)


def _change_attributes(model: ir.Model, change: Callable[[ir.ExternalTensor], ir.TensorProtocol]) -> None:
    for node in _nodes(model):
        for name, attribute in _tensor_attributes(node):
            one = attribute.type == ir.AttributeType.TENSOR
            tensors = [attribute.as_tensor()] if one else list(attribute.as_tensors())
            if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
                made = [change(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor for tensor in tensors]
                node.attributes[name] = ir.AttrTensor(name, made[0]) if one else ir.AttrTensors(name, made)


def _tensor_attributes(node: ir.Node) -> list[tuple[str, ir.Attr]]:
    found = node.attributes.items()
    return [(name, attribute) for name, attribute in found if not attribute.is_ref() and attribute.type in _TENSORS]


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
