"""Infer the shape and type of every value, without reading weights.

onnx's own shape inference does the work on a weightless copy of the model; where it stops at a Reshape, Pad or Resize
whose sizes the graph computes from other shapes, those integer sub-graphs are folded (``fold.py``) and inference runs
again, until nothing new becomes known.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx
import onnx_ir as ir

from sepconvert.errors import ModelError, UsageError
from sepconvert.graph.fold import fold_known_values
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.skeleton import weightless_copy
from sepconvert.record import InputInfo

Shape = tuple[int | None, ...]

_MAX_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is known of the values of the main graph.

    ``shapes`` maps value names to dimensions, None where a dimension (or the whole shape) is unknown; ``dtypes`` maps
    them to numpy's spelling of their type. ``inputs`` are the graph inputs that a caller must feed. ``graph`` is the
    weightless, function-free graph the shapes belong to; ``constants`` are the names of its inputs that stand for
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
    _check_names(given, fed)
    used = _used_shapes(fed, given)
    proto = weightless_copy(model.ir)
    constants = frozenset(value.name for value in proto.graph.input) - {str(value.name) for value in fed}
    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    _make_initializers_constant(proto)
    _forget_shapes(proto.graph, used)
    graph = _infer(proto).graph
    infos = [_input_info(value, used[str(value.name)]) for value in fed]
    shapes, dtypes = _collect(graph)
    return Shapes(
        shapes=MappingProxyType(shapes),
        dtypes=MappingProxyType(dtypes),
        inputs=infos,
        warnings=_warnings(infos),
        graph=graph,
        constants=constants,
        batch=_batch(infos, graph, shapes),
    )


def _check_names(given: Mapping[str, tuple[int, ...]], fed: Sequence[ir.Value]) -> None:
    names = [str(value.name) for value in fed]
    for name, shape in given.items():
        if name not in names:
            raise UsageError(f"--input names '{name}', but the model's inputs are {', '.join(names) or 'none'}.")
        if any(dim < 1 for dim in shape):
            raise UsageError(f"--input {name}:{_spell(shape)} has a dimension below 1; pass positive sizes.")


def _used_shapes(fed: Iterable[ir.Value], given: Mapping[str, tuple[int, ...]]) -> dict[str, Shape | None]:
    fed = list(fed)
    bound: dict[str, int] = {}
    for value in fed:
        if value.name in given and value.shape is not None:
            _bind(value, given[str(value.name)], bound)
    return {str(value.name): _used_shape(value, given.get(str(value.name)), bound) for value in fed}


def _bind(value: ir.Value, shape: tuple[int, ...], bound: dict[str, int]) -> None:
    """Check a given shape against the declared one and note what its named dimensions stand for."""
    assert value.shape is not None
    declared = list(value.shape)
    if len(declared) != len(shape):
        raise UsageError(
            f"--input {value.name}:{_spell(shape)} has {len(shape)} dimensions, the model's input has {len(declared)}."
        )
    for dim, size in zip(declared, shape, strict=True):
        if isinstance(dim, int) and dim > 0 and dim != size:
            raise ModelError(
                f"--input {value.name}:{_spell(shape)} contradicts the model's input "
                f"{_spell(_declared(value))}; its fixed dimensions cannot be changed."
            )
        name = _dim_name(dim)
        if name is not None:
            bound.setdefault(name, size)


def _used_shape(value: ir.Value, given: tuple[int, ...] | None, bound: Mapping[str, int]) -> Shape | None:
    if given is not None:
        return given
    if value.shape is None:
        return None
    used: list[int | None] = []
    for axis, dim in enumerate(value.shape):
        if dim == 0:
            raise ModelError(
                f"Input '{value.name}' has a zero-sized dimension ({_spell(_declared(value))}); "
                "export the model with a real or a dynamic size."
            )
        name = _dim_name(dim)
        if isinstance(dim, int) and dim > 0:
            used.append(dim)
        elif name is not None and name in bound:
            used.append(bound[name])
        else:
            used.append(1 if axis == 0 else None)
    return tuple(used)


def _dim_name(dim: object) -> str | None:
    """Return the name of a symbolic dimension; exporters write '?' and the like for 'unknown', which names nothing."""
    name = dim.value if isinstance(dim, ir.SymbolicDim) else None
    return name if isinstance(name, str) and any(c.isalnum() for c in name) else None


def _declared(value: ir.Value) -> list[int | str | None]:
    if value.shape is None:
        return []
    dims: list[int | str | None] = []
    for dim in value.shape:
        if isinstance(dim, ir.SymbolicDim):
            dims.append(dim.value if isinstance(dim.value, str) else None)
        else:
            # Some exporters write -1 for "dynamic".
            dims.append(int(dim) if int(dim) >= 0 else None)
    return dims


def _spell(dims: Iterable[int | str | None]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in dims)


def _input_info(value: ir.Value, used: Shape | None) -> InputInfo:
    return InputInfo(
        name=str(value.name),
        dtype="unknown" if value.dtype is None else dtype_name(int(value.dtype)),
        declared_shape=_declared(value),
        used_shape=None if used is None else list(used),
    )


def _warnings(infos: Sequence[InputInfo]) -> tuple[str, ...]:
    unknown = [info for info in infos if info.used_shape is None or None in info.used_shape]
    if not unknown:
        return ()
    names = " and ".join(f"'{info.name}'" for info in unknown)
    options = " ".join(f"--input {info.name}:{_suggestion(info)}" for info in unknown)
    plural = "s have" if len(unknown) > 1 else " has"
    return (
        f"Input{plural} unknown dimensions ({names}), so figures that depend on them are unknown; "
        f"pass for example {options}.",
    )


def _suggestion(info: InputInfo) -> str:
    return "1x3x224x224" if info.used_shape is None else _spell(224 if d is None else d for d in info.used_shape)


def _batch(infos: Sequence[InputInfo], graph: onnx.GraphProto, shapes: Mapping[str, Shape | None]) -> int:
    """Return the first dimension of all inputs, if the convolutions bear out that it is a batch."""
    firsts = {info.used_shape[0] for info in infos if info.used_shape}
    (first,) = firsts if len(firsts) == 1 else (None,)
    images = [shapes.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
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
    for value in graph.input:
        if value.name in used:
            _set_shape(value, used[value.name])
    standard = {name for node in graph.node if node.domain in ("", "ai.onnx") for name in node.output}
    kept = [info for info in graph.value_info if info.name not in standard]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for value in graph.output:
        if value.name in standard and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


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
    for _ in range(_MAX_ROUNDS):
        try:
            proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise ModelError(f"The model's shapes contradict each other ({error}).") from None
        if not fold_known_values(proto):
            return proto
    return proto


def _collect(graph: onnx.GraphProto) -> tuple[dict[str, Shape | None], dict[str, str]]:
    shapes: dict[str, Shape | None] = {}
    dtypes: dict[str, str] = {}
    for name, elem_type, shape in typed_values(graph):
        shapes[name] = shape
        dtypes[name] = dtype_name(elem_type)
    for node in graph.node:
        for name in node.output:
            shapes.setdefault(name, None)
    return shapes, dtypes


def typed_values(graph: onnx.GraphProto) -> Iterator[tuple[str, int, Shape | None]]:
    """Yield name, ONNX element type and shape of every tensor whose type is known."""
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type, tuple(tensor.dims)
    for values in (graph.input, graph.value_info, graph.output):
        for value in values:
            if value.type.HasField("tensor_type"):
                kind = value.type.tensor_type
                dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
                yield value.name, kind.elem_type, dims if kind.HasField("shape") else None


def dtype_name(elem_type: int) -> str:
    """Return numpy's (or ml_dtypes') spelling of an ONNX element type, ``unknown`` where there is none."""
    try:
        return str(ir.DataType(elem_type).numpy().name)
    except (ValueError, TypeError):
        return "unknown"
