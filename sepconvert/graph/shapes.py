"""Infer the shape and type of every value, without reading weights.

onnx's own shape inference does the work on a weightless copy of the model; where it stops at a Reshape, Pad or Resize
whose sizes the graph computes from other shapes, those integer sub-graphs are folded (``fold.py``) and inference runs
again, until nothing new becomes known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx

from sepconvert.errors import ModelError, one_line
from sepconvert.graph.contractions import is_contraction
from sepconvert.graph.fold import known_values, replace_nodes
from sepconvert.graph.growth import check_growth
from sepconvert.graph.inputs import Shape, check_names, input_info, unknown_sizes, used_shapes
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import depending_nodes, dtype_name, is_full, typed_values
from sepconvert.graph.stored_numbers import check_numbers
from sepconvert.graph.weightless import CONTROL_FLOW, weightless_copy
from sepconvert.graph.windows import check_windows
from sepconvert.record import InputInfo

_MAX_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is known of the values of the main graph.

    ``shapes`` maps value names to dimensions, None where a dimension (or the whole shape) is unknown; ``dtypes`` maps
    them to numpy's spelling of their type. ``inputs`` are the graph inputs that a caller must feed. ``graph`` is the
    weightless, function-free graph the shapes belong to; ``constants`` are those of its inputs that stand for large
    weights. ``batch`` is the first dimension that all inputs share and that divides the batch of every Conv; figures
    per sample are divided by it (1 where there is no such dimension).
    """

    shapes: Mapping[str, Shape | None]
    dtypes: Mapping[str, str]
    inputs: list[InputInfo]
    warnings: tuple[str, ...]
    graph: onnx.GraphProto
    constants: frozenset[str]
    batch: int = 1

    @property
    def no_tensors(self) -> frozenset[str]:
        """Values that are known to be sequences, maps or optionals."""
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        kinds = ((value.name, value.type.WhichOneof("value")) for value in values)
        return frozenset(name for name, kind in kinds if kind not in (None, "tensor_type"))


def infer_shapes(model: LoadedModel, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Shapes:
    """Infer shapes from ``input_shapes`` and, where those are silent, from the model's static dimensions.

    A dynamic first dimension counts as 1. Any other unresolved dimension leaves what depends on it unknown, with one
    warning that says what to pass.

    Raises:
        UsageError: ``input_shapes`` names no input of the model, or has the wrong number of dimensions.
        ModelError: a given shape contradicts a static dimension, or a dimension is zero or negative.
    """
    given = {name: tuple(int(d) for d in shape) for name, shape in (input_shapes or {}).items()}
    fed = [value for value in model.ir.graph.inputs if not value.is_initializer()]
    check_names(given, fed)
    used = used_shapes(fed, given)
    proto = weightless_copy(model.ir)
    constants = frozenset(value.name for value in proto.graph.input) - used.keys()
    if proto.functions:
        proto = _inlined(proto)
    _make_initializers_constant(proto)
    _forget_shapes(proto.graph, used)
    graph = _infer(proto).graph
    infos = [input_info(value, used[str(value.name)]) for value in fed]
    shapes, dtypes = _collect(graph)
    _check_sizes(graph, shapes)
    check_windows(graph)
    check_growth(graph, set(used))
    return Shapes(
        shapes=MappingProxyType(shapes),
        dtypes=MappingProxyType(dtypes),
        inputs=infos,
        warnings=unknown_sizes(infos) or _unresolved(graph, shapes),
        graph=graph,
        constants=constants,
        batch=_batch(infos, graph, shapes),
    )


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except RuntimeError as error:
        reason = one_line(error).rpartition("failed: ")[2]  # before it, onnx names its own source
        raise ModelError(
            f"The model is invalid: a call does not fit its function ({reason}); export it again."
        ) from None


def _unresolved(graph: onnx.GraphProto, shapes: Mapping[str, Shape | None]) -> tuple[str, ...]:
    """Say which multiply-adds stay unknown although the inputs are known."""
    missing = [node for node in graph.node if is_contraction(node) and not is_full(shapes.get(node.output[0]))]
    if not missing:
        return ()
    first = missing[0]
    more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"The shape of '{first.output[0]}' ({first.op_type}){more} depends on data or on an operator without shape "
        "inference, so figures that depend on it are unknown.",
    )


def _batch(infos: Sequence[InputInfo], graph: onnx.GraphProto, shapes: Mapping[str, Shape | None]) -> int:
    """Return the first dimension of all inputs, if the convolutions bear out that it is a batch."""
    firsts = {info.used_shape[0] for info in infos if info.used_shape}
    (first,) = firsts if len(firsts) == 1 else (None,)
    depending = depending_nodes(graph, {info.name for info in infos})
    images = [shapes.get(node.input[0]) for node in depending if node.op_type == "Conv"]
    known = [shape[0] for shape in images if shape]
    if first is None or not known or any(size is None or size % first for size in known):
        return 1
    return first


def _make_initializers_constant(proto: onnx.ModelProto) -> None:
    """Let inference follow every initializer: nobody overrides them here."""
    graph = proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(kept)
    # Before IR version 4, an initializer that is not an input has no type.
    proto.ir_version = max(proto.ir_version, 4)


def _forget_shapes(graph: onnx.GraphProto, used: Mapping[str, Shape | None]) -> None:
    """Set the used input shapes, and drop declared ones that would contradict or weaken what is inferred from them."""
    for value in (*graph.input, *graph.output):  # an output may be an input, too
        if value.name in used:
            _set_shape(value, used[value.name])
    standard = {name for node in graph.node if _is_inferable(node) for name in node.output}
    kept = [info for info in graph.value_info if info.name not in standard]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for value in graph.output:
        if value.name in standard and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _is_inferable(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type not in CONTROL_FLOW


def _set_shape(value: onnx.ValueInfoProto, shape: Shape | None) -> None:
    if not value.type.HasField("tensor_type"):
        return
    value.type.tensor_type.ClearField("shape")
    if shape is None:
        return
    value.type.tensor_type.shape.SetInParent()
    for dim in shape:
        added = value.type.tensor_type.shape.dim.add()
        if dim is not None:
            added.dim_value = dim


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Infer and fold in turn; ``proto`` loses the nodes that were folded."""
    replace_nodes(proto.graph, known_values(proto))
    for _ in range(_MAX_ROUNDS):
        check_numbers(proto.graph)
        # Every round starts without inferred shapes: those of the last one hold made-up symbols for unknown sizes,
        # which a later inference would not replace by numbers.
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise ModelError(f"The model is invalid: its shapes cannot be inferred ({one_line(error)}).") from None
        except MemoryError:
            raise ModelError(
                "The model's shapes cannot be inferred in this machine's memory: a size in it is far too large; export "
                "the model again."
            ) from None
        values = known_values(inferred)
        if not values:
            return inferred
        replace_nodes(proto.graph, values)
    return inferred


def _check_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Shape | None]) -> None:
    empty = {tensor.name: list(tensor.dims) for tensor in graph.initializer if 0 in tensor.dims}
    for node in graph.node:
        if is_contraction(node) and any(dim is not None and dim < 1 for dim in shapes.get(node.output[0]) or ()):
            layer = f"{node.op_type} '{node.name or node.output[0]}'"
            for weight in (name for name in node.input if name in empty):
                raise ModelError(f"{layer} has an empty weight, {empty[weight]}; export the model again.")
            raise ModelError(
                f"{layer} has nothing to compute on: the model's input is too small for it, or empty; use larger input "
                "dimensions."
            )


def _collect(graph: onnx.GraphProto) -> tuple[dict[str, Shape | None], dict[str, str]]:
    shapes: dict[str, Shape | None] = {}
    dtypes: dict[str, str] = {}
    for name, elem_type, shape in typed_values(graph):
        if not is_full(shapes.get(name)):
            # A value that is an output too has two entries, of which one may say less.
            shapes[name] = shape
        dtypes[name] = dtype_name(elem_type)
    for node in graph.node:
        for name in node.output:
            shapes.setdefault(name, None)
    return shapes, dtypes
