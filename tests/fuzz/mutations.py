"""Damage to a model, drawn from a seed: to its structure, or to the bytes of its file."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

SIZES = (-1, 0, 1, 2, 3, 5, 7, 64, 4000, 30_000, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63))
NAMES = ("", "x", "y", "w", "nowhere", "[/]", "a b\nc", "é", "\x1b[31m", "w0", "n" * 300)
PLACES = ("w.bin", "missing.bin", "../w.bin", "/etc/hostname", "w\0.bin", "", ".", "sub/../w.bin", "n" * 300)
OPERATORS = (
    *("Conv", "ConvTranspose", "Relu", "Softmax", "Sigmoid", "Reshape", "Flatten", "Gemm", "MatMul", "Add", "Concat"),
    *("Resize", "Pad", "Shape", "Identity", "Cast", "Constant", "ConstantOfShape", "Range", "Transpose", "Split"),
    *("Loop", "If", "Gather", "NonMaxSuppression", "Einsum", "BatchNormalization", "QLinearConv", "SequenceAt"),
    *("DequantizeLinear", "LSTM", "Unknown"),
)

Rng = np.random.Generator


def structural(proto: onnx.ModelProto, rng: Rng) -> bytes:
    """Damage a copy of a model in one to three places."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        _pick(rng, MUTATIONS)(made, rng)
    return bytes(made.SerializeToString())


def in_bytes(proto: onnx.ModelProto, rng: Rng) -> bytes:
    """Damage the bytes of a model: flipped, replaced, cut out, repeated, inserted, cut off."""
    data = bytearray(proto.SerializeToString())
    for _ in range(int(rng.choice([1, 1, 2, 4, 8]))):
        # Half of all damage goes where no weights are: most bytes of a model are weights.
        place = int(rng.integers(len(data))) if rng.random() < 0.5 else _outside_weights(proto, data, rng)
        length = int(rng.choice([1, 1, 2, 8, 40]))
        kind = int(rng.integers(7))
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place] = int(rng.integers(256))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length]
        elif kind == 4:
            data[place:place] = rng.bytes(length)
        elif kind == 5:
            data[place : place + 1] = b"\xff"
        elif rng.random() < 0.3:
            del data[place:]
        if not data:
            break
    return bytes(data)


def _outside_weights(proto: onnx.ModelProto, data: bytearray, rng: Rng) -> int:
    spans = [(data.find(t.raw_data), len(t.raw_data)) for t in proto.graph.initializer if len(t.raw_data) > 64]
    for _ in range(20):
        place = int(rng.integers(len(data)))
        if not any(start <= place < start + length for start, length in spans if start >= 0):
            break
    return place


def _pick(rng: Rng, options: Any) -> Any:
    found = list(options)
    return found[int(rng.integers(len(found)))]


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    def inside(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield from inside(attribute.g)

    yield from inside(proto.graph)


def _nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    nodes = [node for graph in _graphs(proto) for node in graph.node]
    return nodes + [node for function in proto.functions for node in function.node]


def _tensors(proto: onnx.ModelProto) -> list[TensorProto]:
    stored = [tensor for graph in _graphs(proto) for tensor in graph.initializer]
    return stored + [a.t for node in _nodes(proto) for a in node.attribute if a.type == AttributeProto.TENSOR]


def _attribute(proto: onnx.ModelProto, rng: Rng) -> None:
    """Change, drop, repeat or retype an attribute, or make it a reference."""
    nodes = [node for node in _nodes(proto) if node.attribute]
    if not nodes:
        return
    node = _pick(rng, nodes)
    attribute = _pick(rng, node.attribute)
    kind = int(rng.integers(8))
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        node.attribute.add().CopyFrom(attribute)
    elif kind == 2:
        attribute.ref_attr_name = _pick(rng, NAMES)
    elif kind == 3:
        attribute.type = _pick(rng, AttributeProto.AttributeType.values())
    elif kind == 4:
        name = attribute.name
        value = _pick(rng, (3, [1], 0.5, [0.5], "text", b"\xff", ["a"], TensorProto(data_type=1, dims=[0])))
        attribute.CopyFrom(helper.make_attribute(name, value))
    elif kind == 5:
        attribute.name = _pick(rng, ("value_ints", "value_string", "sparse_value", "axis", *NAMES))
    else:
        _number(attribute, rng)


def _number(attribute: AttributeProto, rng: Rng) -> None:
    if attribute.ints:
        if rng.random() < 0.3:
            attribute.ints.append(_pick(rng, SIZES))
        elif rng.random() < 0.2:
            attribute.ints.pop()
        else:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = _pick(rng, SIZES)
    elif attribute.type == AttributeProto.INT:
        attribute.i = _pick(rng, SIZES)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = _pick(rng, (b"", b"\xff\xfe", b"VALID", b"SAME_LOWER", b"NOTSET", b"linear"))
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = _pick(rng, (float("nan"), float("inf"), 0.0, -1.0, 1e38))


def _geometry(proto: onnx.ModelProto, rng: Rng) -> None:
    """Give a convolution (or another node) odd pads, strides, dilations, a group, or an auto_pad beside pads."""
    convs = [node for node in _nodes(proto) if "Conv" in node.op_type] or _nodes(proto)
    if not convs:
        return
    node = _pick(rng, convs)
    length = int(rng.choice([1, 2, 2, 3, 4]))
    values = [int(_pick(rng, SIZES)) if rng.random() < 0.6 else 1 for _ in range(length)]
    name, value = _pick(
        rng,
        [
            ("pads", values * 2),
            ("strides", values),
            ("dilations", values),
            ("kernel_shape", values),
            ("group", values[0]),
            ("auto_pad", _pick(rng, ("SAME_UPPER", "VALID", "nonsense"))),
        ],
    )
    old = [attribute for attribute in node.attribute if attribute.name == name]
    for attribute in old:
        node.attribute.remove(attribute)
    node.attribute.add().CopyFrom(helper.make_attribute(name, value))


def _tensor(proto: onnx.ModelProto, rng: Rng) -> None:
    """Change a tensor's dimensions, type, name, values or place."""
    tensors = _tensors(proto)
    if not tensors:
        return
    tensor = _pick(rng, tensors)
    kind = int(rng.integers(10))
    if kind == 0:
        tensor.dims.append(_pick(rng, SIZES))
    elif kind == 1 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = _pick(rng, SIZES)
    elif kind == 2:
        tensor.data_type = _pick(rng, (*TensorProto.DataType.values(), 99, -1))
    elif kind == 3:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data) + 1))]
    elif kind == 4:
        tensor.name = _pick(rng, NAMES)
    elif kind == 5:
        tensor.segment.begin, tensor.segment.end = 0, int(_pick(rng, (1, 5, 2**40)))
    elif kind == 6:
        tensor.data_type = TensorProto.STRING
        tensor.string_data.append(_pick(rng, (b"\xff\xfe", b"text", b"")))
    elif kind == 7:
        _fill(tensor, _pick(rng, (np.nan, np.inf, 0.0, 1e25, 1e30, 3e38, 1e-40)), rng)
    elif kind == 8:
        tensor.ClearField("raw_data")
        getattr(tensor, _pick(rng, ("float_data", "int32_data", "int64_data"))).extend([1] * int(rng.integers(400)))
    else:
        _externalise(tensor, rng)


def _fill(tensor: TensorProto, value: float, rng: Rng) -> None:
    types = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
    kind = types.get(tensor.data_type)
    # What an earlier mutation has made of its bytes may be no numbers.
    if kind is not None and tensor.raw_data and len(tensor.raw_data) % np.dtype(kind).itemsize == 0:
        array = np.frombuffer(tensor.raw_data, kind).copy()
        with np.errstate(over="ignore"):
            if rng.random() < 0.5:
                array[...] = value
            else:
                array[int(rng.integers(array.size))] = value
        tensor.raw_data = array.tobytes()


def _externalise(tensor: TensorProto, rng: Rng) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=_pick(rng, PLACES))
    if rng.random() < 0.5:
        tensor.external_data.add(key="offset", value=_pick(rng, ("0", "-1", "4", "9" * 30, "x", "")))
    if rng.random() < 0.5:
        tensor.external_data.add(key="length", value=_pick(rng, ("0", "-1", "4", str(len(tensor.raw_data)), "1e3")))
    if rng.random() < 0.8:
        tensor.ClearField("raw_data")


def _wiring(proto: onnx.ModelProto, rng: Rng) -> None:
    """Rename what a node reads or writes, drop it, repeat it, move it, or give it another operator."""
    graph = _pick(rng, _graphs(proto))
    if not graph.node:
        return
    place = int(rng.integers(len(graph.node)))
    node, kind = graph.node[place], int(rng.integers(9))
    values = [name for other in graph.node for name in (*other.input, *other.output)] + list(NAMES)
    if kind == 0:
        del graph.node[place]
    elif kind == 1:
        graph.node.add().CopyFrom(node)
    elif kind == 2 and node.input:
        node.input[int(rng.integers(len(node.input)))] = _pick(rng, values)
    elif kind == 3 and node.output:
        node.output[int(rng.integers(len(node.output)))] = _pick(rng, values)
    elif kind == 4:
        node.op_type = _pick(rng, OPERATORS)
    elif kind == 5:
        node.domain = _pick(rng, ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "local", "nowhere"))
    elif kind == 6 and node.input:
        del node.input[int(rng.integers(len(node.input))) :]
    elif kind == 7:
        node.input.append(_pick(rng, values))
    else:
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        del graph.node[place]
        graph.node.insert(int(rng.integers(len(graph.node) + 1)), moved)


def _interface(proto: onnx.ModelProto, rng: Rng) -> None:
    """Change an input, an output or a declared value."""
    graph = _pick(rng, _graphs(proto))
    values = _pick(rng, (graph.input, graph.output, graph.value_info))
    if not values:
        return
    value, kind = _pick(rng, values), int(rng.integers(8))
    dims = value.type.tensor_type.shape.dim
    if kind == 0:
        values.remove(value)
    elif kind == 1:
        values.add().CopyFrom(value)
    elif kind == 2:
        value.name = _pick(rng, NAMES)
    elif kind == 3:
        value.type.tensor_type.elem_type = _pick(rng, (*TensorProto.DataType.values(), 99))
    elif kind == 4:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 5 and dims:
        _pick(rng, dims).dim_param = _pick(rng, NAMES)
    elif kind == 6 and dims:
        _pick(rng, dims).dim_value = _pick(rng, SIZES)
    else:
        value.ClearField("type")


def _versions(proto: onnx.ModelProto, rng: Rng) -> None:
    kind = int(rng.integers(5))
    if kind == 0:
        proto.ir_version = _pick(rng, (0, 1, 3, 4, 8, 10, 11, 99, 2**40))
    elif kind == 1:
        del proto.opset_import[:]
    elif kind == 2:
        proto.opset_import.add(domain=_pick(rng, ("", "ai.onnx", "nowhere")), version=_pick(rng, (0, 1, 7, 99, 2**62)))
    elif proto.opset_import:
        opset = _pick(rng, proto.opset_import)
        opset.version = _pick(rng, (-1, 0, 1, 6, 7, 8, 9, 11, 13, 17, 18, 21, 99))


def _addition(proto: onnx.ModelProto, rng: Rng) -> None:
    """Add a node that need not lead anywhere but may be costly or malformed."""
    node, size = helper.make_node, int(_pick(rng, SIZES))
    constant = node("Constant", [], ["dead"])
    attribute = _pick(
        rng,
        [
            None,
            helper.make_attribute("value_int", size),
            helper.make_attribute("value_strings", ["a", b"\xff"]),
            helper.make_attribute("value", 3),
            helper.make_attribute("value_float", "text"),
            AttributeProto(name="value", type=AttributeProto.TENSOR, ref_attr_name="outer"),
            AttributeProto(name="value_ints", type=AttributeProto.INTS, ref_attr_name="outer"),
            AttributeProto(name="value", type=AttributeProto.SPARSE_TENSOR),
        ],
    )
    if attribute is not None:
        constant.attribute.add().CopyFrom(attribute)
    sized = node("Constant", [], ["dead_size"], value_ints=[size] * int(rng.integers(1, 4)))
    added = _pick(
        rng,
        [
            [constant],
            [constant, node("Identity", ["dead"], ["dead1"])],
            [sized, node("ConstantOfShape", ["dead_size"], ["dead1"])],
            [sized, node("ConstantOfShape", ["dead_size"], ["dead1"]), node("ReduceSum", ["dead1"], ["dead2"])],
            [
                node("Constant", [], ["lo"], value_int=0),
                node("Constant", [], ["hi"], value_int=size),
                node("Constant", [], ["step"], value_int=1),
                node("Range", ["lo", "hi", "step"], ["dead"]),
            ],
            [sized, node("Expand", ["x", "dead_size"], ["dead"])],
            [sized, node("Tile", ["dead_size", "dead_size"], ["dead"])],
            [sized, node("Reshape", ["x", "dead_size"], ["dead"])],
            [sized, node("Pad", ["x", "dead_size"], ["dead"])],
            [node("If", ["flag"], ["dead"])],
            [node("Conv", ["x", "dead_w"], ["dead"])],
        ],
    )
    end = len(proto.graph.node)
    place = int(rng.integers(end + 1))
    for offset, extra in enumerate(added):
        proto.graph.node.insert(place + offset, extra)
    if rng.random() < 0.3 and proto.graph.node:
        # Something alive reads it.
        reader = _pick(rng, proto.graph.node)
        if reader.input:
            reader.input[int(rng.integers(len(reader.input)))] = added[-1].output[0]


def _extras(proto: onnx.ModelProto, rng: Rng) -> None:
    """Parts of the format that few models have."""
    kind = int(rng.integers(5))
    if kind == 0:
        proto.graph.sparse_initializer.add().values.name = "sparse"
    elif kind == 1:
        proto.metadata_props.add(key=_pick(rng, NAMES), value="v")
    elif kind == 2:
        proto.graph.quantization_annotation.add(tensor_name=_pick(rng, NAMES))
    elif kind == 3:
        proto.functions.add(name="Conv", domain=_pick(rng, ("", "local")), input=["a", "b"], output=["c"])
    else:
        proto.training_info.add()


MUTATIONS: tuple[Callable[[onnx.ModelProto, Rng], None], ...] = (
    _attribute,
    _attribute,
    _geometry,
    _geometry,
    _tensor,
    _tensor,
    _wiring,
    _interface,
    _versions,
    _addition,
    _extras,
)
