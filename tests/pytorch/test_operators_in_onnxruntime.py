"""Operators beside onnxruntime where the published tests say little: variants, old opsets, odd geometry."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from sepconvert.errors import ModelError
from sepconvert.graph.load import load_bytes
from sepconvert.runtime.sessions import run_model
from tests.graph.models import IR_VERSIONS

torch = pytest.importorskip("torch")

from sepconvert.pytorch.operators.normalization import group_norm  # noqa: E402
from sepconvert.pytorch.trainable import TrainableGraph  # noqa: E402

Arrays = dict[str, Any]

# float32: some hundred roundings, relative to the largest value.
TOLERANCE = 200 * 2.0**-24


def _model(nodes: list[onnx.NodeProto], feeds: Arrays, outputs: list[str], constants: Arrays, opset: int) -> bytes:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, results, tensors)
    version = IR_VERSIONS.get(opset, 10)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=max(version, 4))
    inferred = onnx.shape_inference.infer_shapes(model)
    for result in inferred.graph.output:
        if not result.type.WhichOneof("value"):
            result.type.CopyFrom(inferred.graph.input[0].type)
    return bytes(inferred.SerializeToString())


def _differences(
    nodes: list[onnx.NodeProto],
    feeds: Arrays,
    outputs: tuple[str, ...] = ("y",),
    constants: Arrays | None = None,
    opset: int = 17,
) -> list[float]:
    """The largest difference of each output, relative to its largest value; shapes and types must be equal."""
    data = _model(nodes, feeds, list(outputs), constants or {}, opset)
    expected = run_model(data, feeds, optimise=False)
    module = TrainableGraph.from_model(load_bytes(data))
    with torch.no_grad():
        found = module({name: torch.from_numpy(array) for name, array in feeds.items()})
    differences = []
    for name in outputs:
        mine, theirs = found[name].numpy(), expected[name]
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        if not theirs.size:
            differences.append(0.0)
            continue
        largest = max(float(np.abs(theirs.astype(np.float64)).max()), 1e-6)
        differences.append(float(np.abs(mine.astype(np.float64) - theirs.astype(np.float64)).max()) / largest)
    return differences


def _x(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def _i(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    "variant", ["plain", "bias and states", "lengths", "clip", "activations", "peepholes", "input_forget", "linear"]
)
def test_recurrent_networks_compute_what_onnxruntime_does(op: str, direction: str, variant: str) -> None:
    only = {"peepholes": "LSTM", "input_forget": "LSTM", "linear": "GRU"}.get(variant, op)
    if op != only:
        op = only
    gates, directions, size = GATES[op], 2 if direction == "bidirectional" else 1, 4
    constants: Arrays = {
        "w": _x(directions, gates * size, 3, seed=1),
        "r": _x(directions, gates * size, size, seed=2),
        "b": _x(directions, 2 * gates * size, seed=3),
    }
    inputs, attributes = "x w r b", {"direction": direction, "hidden_size": size}
    if variant == "plain":
        inputs = "x w r"
    if variant == "lengths":
        constants["lengths"] = np.array([5, 2, 3], np.int32)
        inputs += " lengths"
    if variant == "bias and states":
        constants["h"] = _x(directions, 3, size, seed=4)
        constants["c"] = _x(directions, 3, size, seed=5)
        inputs += " - h c" if op == "LSTM" else " - h"
    if variant == "peepholes":
        constants["p"] = _x(directions, 3 * size, seed=6)
        inputs += " - - - p"
    if variant == "clip":
        attributes["clip"] = 0.3
    if variant == "activations":
        names = {"RNN": ["Relu"], "GRU": ["Softsign", "Relu"], "LSTM": ["Sigmoid", "Softsign", "Relu"]}[op]
        attributes["activations"] = names * directions
    if variant == "input_forget":
        attributes["input_forget"] = 1
    if variant == "linear":
        attributes["linear_before_reset"] = 1
    outputs = "y h_last c_last" if op == "LSTM" else "y h_last"
    found = _differences(
        [_node(op, inputs, outputs, **attributes)], {"x": _x(5, 3, 3)}, tuple(outputs.split()), constants
    )
    assert max(found) < TOLERANCE


def test_sequences_are_split_picked_and_joined_as_in_onnxruntime() -> None:
    nodes = [
        _node("SplitToSequence", "x parts", "s", axis=1),
        _node("SequenceAt", "s first", "a"),
        _node("SequenceAt", "s last", "b"),
        _node("SequenceConstruct", "b a", "t"),
        _node("ConcatFromSequence", "t", "y", axis=1),
        _node("SequenceLength", "s", "n"),
        _node("SplitToSequence", "x", "slices", axis=0, keepdims=0),
        _node("ConcatFromSequence", "slices", "z", axis=1, new_axis=1),
    ]
    constants = {"parts": _i(2, 1, 3), "first": np.array(0), "last": np.array(-1)}
    assert max(_differences(nodes, {"x": _x(2, 6, 3)}, ("y", "n", "z"), constants)) == 0


axis = st.integers(1, 3)


@st.composite
def geometry(draw: st.DrawFn, rank: int) -> dict[str, Any]:
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    attributes["strides"] = draw(st.lists(axis, min_size=rank, max_size=rank))
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        pads = [draw(st.integers(0, side - 1)) for side in kernel * 2]
        return attributes | {"pads": pads}
    return attributes | {"auto_pad": auto}


@settings(deadline=None, max_examples=60)
@given(rank=st.integers(1, 3), data=st.data())
def test_convolutions_of_any_geometry(rank: int, data: st.DataObject) -> None:
    attributes = data.draw(geometry(rank))
    if "pads" in attributes:
        attributes["dilations"] = data.draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    group = data.draw(st.sampled_from([1, 2]))
    constants = {"w": _x(6, 4 // group, *attributes["kernel_shape"]), "b": _x(6)}
    feeds = {"x": _x(2, 4, *data.draw(st.lists(st.integers(6, 8), min_size=rank, max_size=rank)))}
    node = _node("Conv", "x w b", group=group, **attributes)
    assert max(_differences([node], feeds, constants=constants)) < TOLERANCE


@settings(deadline=None, max_examples=60)
@given(rank=st.integers(1, 2), data=st.data())
def test_transposed_convolutions_of_any_geometry(rank: int, data: st.DataObject) -> None:
    attributes = data.draw(geometry(rank))
    group = data.draw(st.sampled_from([1, 2]))
    if "pads" in attributes:
        attributes["dilations"] = data.draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
        extra = [data.draw(st.integers(0, stride - 1)) for stride in attributes["strides"]]
        attributes["output_padding"] = extra
    # onnxruntime pads by less than nothing where SAME asks for more than the whole; torch and ONNX do not agree either.
    assume(
        attributes.get("auto_pad", "") in ("", "VALID")
        or all(
            kernel >= stride for kernel, stride in zip(attributes["kernel_shape"], attributes["strides"], strict=True)
        )
    )
    constants = {"w": _x(4, 6 // group, *attributes["kernel_shape"]), "b": _x(6 // group * group)}
    feeds = {"x": _x(2, 4, *data.draw(st.lists(st.integers(3, 5), min_size=rank, max_size=rank)))}
    node = _node("ConvTranspose", "x w b", group=group, **attributes)
    assert max(_differences([node], feeds, constants=constants)) < TOLERANCE


@settings(deadline=None, max_examples=100)
@given(op=st.sampled_from(["MaxPool", "AveragePool"]), rank=st.integers(1, 3), data=st.data())
def test_pooling_of_any_geometry_is_that_of_onnxruntime(op: str, rank: int, data: st.DataObject) -> None:
    attributes = data.draw(geometry(rank))
    # onnxruntime refuses SAME where windows leave gaps: its padding would be negative.
    same = attributes.get("auto_pad", "").startswith("SAME")
    sides = zip(attributes["kernel_shape"], attributes["strides"], strict=True)
    assume(not same or all(kernel >= stride for kernel, stride in sides))
    outputs = "y"
    if "pads" in attributes:
        attributes["ceil_mode"] = data.draw(st.sampled_from([0, 1]))
    if "pads" in attributes and op == "MaxPool":
        attributes["dilations"] = data.draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    if op == "MaxPool":
        outputs = data.draw(st.sampled_from(["y", "y indices"]))
        attributes["storage_order"] = data.draw(st.sampled_from([0, 1])) if rank > 1 else 0
    if op == "AveragePool":
        attributes["count_include_pad"] = data.draw(st.sampled_from([0, 1]))
    feeds = {"x": _x(2, 3, *data.draw(st.lists(st.integers(5, 8), min_size=rank, max_size=rank)))}
    assert max(_differences([_node(op, "x", outputs, **attributes)], feeds, tuple(outputs.split()))) < TOLERANCE


# Where the exact position lies on a rounding's edge, the last bit decides, and onnxruntime's is not always ours.
ON_THE_EDGE = {
    ("asymmetric", "round_prefer_floor"),
    ("asymmetric", "round_prefer_ceil"),
    ("half_pixel_symmetric", "floor"),
    ("half_pixel_symmetric", "ceil"),
}
RESIZE_MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(RESIZE_MODES),
    rounding=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
)
def test_resizing_to_any_size_is_as_in_onnxruntime(
    mode: str, coordinates: str, rounding: str, height: int, width: int
) -> None:
    assume(mode != "nearest" or (coordinates, rounding) not in ON_THE_EDGE)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = rounding
    node = _node("Resize", "x - - sizes", **attributes)
    constants = {"sizes": _i(1, 2, height, width)}
    assert max(_differences([node], {"x": _x(1, 2, 5, 4)}, constants=constants, opset=19)) < TOLERANCE


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [0.5, 0.6, 1.5, 2.0, 3.0])
def test_resizing_by_a_scale_is_that_of_onnxruntime(opset: int, mode: str, scale: float) -> None:
    node = _node("Resize", "x - scales", mode=mode)
    constants = {"scales": np.array([1, 1, scale, scale], np.float32)}
    if opset < 13:
        node, constants = _node("Resize", "x roi scales", mode=mode), constants | {"roi": np.zeros(0, np.float32)}
    assert max(_differences([node], {"x": _x(1, 2, 6, 7)}, constants=constants, opset=opset)) < TOLERANCE


S = np.array([1, 1, 2, 3], np.float32)

# What differs between opsets, and what others got wrong silently: opset, node, inputs, constants.
CASES: dict[str, tuple[int, onnx.NodeProto, Arrays, Arrays]] = {
    "Softmax over all later axes": (11, _node("Softmax", "x", axis=1), {"x": _x(2, 3, 4)}, {}),
    "Softmax over the last axis": (13, _node("Softmax", "x"), {"x": _x(2, 3, 4)}, {}),
    "LogSoftmax with a negative axis": (12, _node("LogSoftmax", "x", axis=-2), {"x": _x(2, 3, 4)}, {}),
    "Slice by attributes": (9, _node("Slice", "x", starts=[1, -2], ends=[9, -1], axes=[0, 2]), {"x": _x(3, 2, 4)}, {}),
    "Slice backwards": (
        13,
        _node("Slice", "x a b c d"),
        {"x": _x(3, 5)},
        {"a": _i(-1), "b": _i(-99), "c": _i(1), "d": _i(-2)},
    ),
    "Pad by attributes": (9, _node("Pad", "x", pads=[0, 1, 2, 0], value=2.5), {"x": _x(2, 3)}, {}),
    "Pad that crops": (13, _node("Pad", "x p"), {"x": _x(4, 5)}, {"p": _i(-1, 2, 1, -2)}),
    "Pad by reflection": (13, _node("Pad", "x p", mode="reflect"), {"x": _x(2, 3, 4)}, {"p": _i(1, 0, 3, 0, 2, 1)}),
    "Pad by the edge": (13, _node("Pad", "x p", mode="edge"), {"x": _x(1, 2, 3, 4)}, {"p": _i(0, 0, 5, 1, 0, 0, 0, 6)}),
    "Pad along some axes": (19, _node("Pad", "x p - a", mode="wrap"), {"x": _x(3, 4)}, {"p": _i(2, 3), "a": _i(-1)}),
    "Squeeze by attributes": (11, _node("Squeeze", "x", axes=[-1]), {"x": _x(1, 3, 1)}, {}),
    "Squeeze all": (13, _node("Squeeze", "x"), {"x": _x(1, 3, 1)}, {}),
    "Unsqueeze by attributes": (11, _node("Unsqueeze", "x", axes=[0, 3]), {"x": _x(2, 3)}, {}),
    "Unsqueeze by inputs": (13, _node("Unsqueeze", "x a"), {"x": _x(2, 3)}, {"a": _i(-1, 0)}),
    "Split by attributes": (11, _node("Split", "x", "y z", axis=1, split=[1, 3]), {"x": _x(2, 4)}, {}),
    "Split into unequal parts": (18, _node("Split", "x", "y z", axis=1, num_outputs=2), {"x": _x(2, 5)}, {}),
    "Reshape keeping a side": (13, _node("Reshape", "x s"), {"x": _x(2, 3, 4)}, {"s": _i(0, -1)}),
    "Reshape with allowzero": (14, _node("Reshape", "x s", allowzero=1), {"x": _x(0, 3)}, {"s": _i(3, 0)}),
    "Clip by attributes": (10, _node("Clip", "x", min=-0.5, max=0.25), {"x": _x(9)}, {}),
    "Clip above only": (13, _node("Clip", "x - m"), {"x": _x(9)}, {"m": np.array(0.1, np.float32)}),
    "Upsample by attributes": (
        8,
        _node("Upsample", "x", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
        {"x": _x(1, 2, 3, 4)},
        {},
    ),
    "Upsample linearly": (9, _node("Upsample", "x s", mode="linear"), {"x": _x(1, 2, 3, 4)}, {"s": S}),
    "Resize of opset 10": (10, _node("Resize", "x s", mode="nearest"), {"x": _x(1, 2, 3, 4)}, {"s": S}),
    "Dropout of opset 9": (9, _node("Dropout", "x", "y mask", ratio=0.4), {"x": _x(9)}, {}),
    "Dropout of opset 11": (11, _node("Dropout", "x", "y mask", ratio=0.4), {"x": _x(9)}, {}),
    "Dropout with a mask": (13, _node("Dropout", "x", "y mask"), {"x": _x(9)}, {}),
    "Dropout with inputs": (13, _node("Dropout", "x r"), {"x": _x(9)}, {"r": np.array(0.9, np.float32)}),
    "TopK by attribute": (9, _node("TopK", "x", "y i", k=2), {"x": np.float32([[1, 3, 3, 2]])}, {}),
    "TopK with ties": (11, _node("TopK", "x k", "y i", largest=0), {"x": np.float32([[2, 1, 1, 1]])}, {"k": _i(2)}),
    "ArgMax of the last": (
        13,
        _node("ArgMax", "x", axis=1, select_last_index=1),
        {"x": np.float32([[1, 3, 3, 2]])},
        {},
    ),
    "ArgMin of the first": (13, _node("ArgMin", "x", axis=1, keepdims=0), {"x": np.float32([[1, 0, 0, 2]])}, {}),
    "ReduceSum by attributes": (11, _node("ReduceSum", "x", axes=[0, -1], keepdims=0), {"x": _x(2, 3, 4)}, {}),
    "ReduceSum of nothing": (13, _node("ReduceSum", "x a", noop_with_empty_axes=1), {"x": _x(2, 3)}, {"a": _i()}),
    "ReduceSum of everything": (13, _node("ReduceSum", "x"), {"x": _x(2, 3)}, {}),
    "ReduceMean by inputs": (18, _node("ReduceMean", "x a"), {"x": _x(2, 3, 4)}, {"a": _i(1, -1)}),
    "ReduceL2": (17, _node("ReduceL2", "x", axes=[1]), {"x": _x(2, 3, 4)}, {}),
    "DepthToSpace by columns": (13, _node("DepthToSpace", "x", blocksize=2, mode="CRD"), {"x": _x(1, 8, 2, 3)}, {}),
    "DepthToSpace by default": (13, _node("DepthToSpace", "x", blocksize=2), {"x": _x(1, 8, 2, 3)}, {}),
    "SpaceToDepth": (13, _node("SpaceToDepth", "x", blocksize=2), {"x": _x(1, 2, 4, 6)}, {}),
    "GroupNormalization per channel": (
        21,
        _node("GroupNormalization", "x s b", num_groups=2),
        {"x": _x(2, 4, 3)},
        {"s": _x(4), "b": _x(4)},
    ),
    "InstanceNormalization of one pixel": (
        17,
        _node("InstanceNormalization", "x s b"),
        {"x": _x(2, 3, 1, 1)},
        {"s": _x(3), "b": _x(3)},
    ),
    "LayerNormalization with a broadcast scale": (
        17,
        _node("LayerNormalization", "x s", axis=1),
        {"x": _x(2, 3, 4)},
        {"s": _x(1, 4)},
    ),
    "LRN": (13, _node("LRN", "x", size=5, alpha=0.3), {"x": _x(2, 7, 3, 3)}, {}),
    "LpNormalization": (17, _node("LpNormalization", "x", axis=1, p=1), {"x": _x(2, 7, 3)}, {}),
    "GlobalMaxPool": (17, _node("GlobalMaxPool", "x"), {"x": _x(2, 3, 4)}, {}),
    "Gemm with everything": (
        13,
        _node("Gemm", "x b c", alpha=0.5, beta=2.0, transA=1, transB=1),
        {"x": _x(4, 3)},
        {"b": _x(5, 4), "c": _x(3, 1)},
    ),
    "Gemm without C": (13, _node("Gemm", "x b", alpha=0.5), {"x": _x(3, 4)}, {"b": _x(4, 5)}),
    "Gemm with a scalar C": (13, _node("Gemm", "x b c"), {"x": _x(3, 4)}, {"b": _x(4, 5), "c": _x(1)}),
    "MatMul of a vector": (13, _node("MatMul", "x b"), {"x": _x(4)}, {"b": _x(2, 4, 5)}),
    "Einsum": (13, _node("Einsum", "x b", equation=" bij , jk -> b k i"), {"x": _x(2, 3, 4)}, {"b": _x(4, 5)}),
    "PRelu per channel": (13, _node("PRelu", "x s"), {"x": _x(2, 3, 4, 4)}, {"s": _x(3, 1, 1)}),
    "Pow of an integer exponent": (13, _node("Pow", "x e"), {"x": _x(5)}, {"e": np.array(2, np.int64)}),
    "Div of negative integers": (13, _node("Div", "x b"), {"x": _i(-7, 7, -8)}, {"b": _i(2, -2, 3)}),
    "Mod of negative integers": (13, _node("Mod", "x b"), {"x": _i(-7, 7, -8)}, {"b": _i(2, -2, 3)}),
    "Cast to integers": (13, _node("Cast", "x", to=7), {"x": np.float32([-1.7, 1.7, 2.5])}, {}),
    "Gather with negative indices": (
        13,
        _node("Gather", "x i", axis=1),
        {"x": _x(2, 3, 4)},
        {"i": np.array([[-1, 0]])},
    ),
    "Gather of one": (13, _node("Gather", "x i"), {"x": _x(3)}, {"i": np.array(1)}),
    "GatherND with batches": (
        13,
        _node("GatherND", "x i", batch_dims=1),
        {"x": _x(2, 3, 4)},
        {"i": np.array([[1], [-1]])},
    ),
    "ScatterND": (13, _node("ScatterND", "x i u"), {"x": _x(4, 3)}, {"i": np.array([[1], [3]]), "u": _x(2, 3)}),
    "ScatterElements": (
        13,
        _node("ScatterElements", "x i u", axis=1),
        {"x": _x(2, 4)},
        {"i": np.array([[1], [-1]]), "u": _x(2, 1)},
    ),
    "OneHot": (13, _node("OneHot", "x d v", axis=1), {"x": _i(0, -1, 2)}, {"d": np.array(3), "v": np.float32([0, 5])}),
    "CumSum": (13, _node("CumSum", "x a", exclusive=1, reverse=1), {"x": _x(2, 5)}, {"a": np.array(1)}),
    "Trilu": (14, _node("Trilu", "x k", upper=0), {"x": _x(4, 5)}, {"k": np.array(1)}),
    "Tile": (13, _node("Tile", "x r"), {"x": _x(2, 3)}, {"r": _i(2, 1)}),
    "Expand downwards": (13, _node("Expand", "x s"), {"x": _x(3, 1)}, {"s": _i(2, 1, 4)}),
    "Expand to smaller": (13, _node("Expand", "x s"), {"x": _x(3, 2)}, {"s": _i(1)}),
    "ConstantOfShape": (13, _node("ConstantOfShape", "x"), {"x": _i(2, 3)}, {}),
    "Shape of a part": (15, _node("Shape", "x", start=1, end=-1), {"x": _x(2, 3, 4, 5)}, {}),
    "Range": (13, _node("Range", "x b c"), {"x": np.array(1)}, {"b": np.array(9), "c": np.array(3)}),
    "BatchNormalization of a matrix": (
        15,
        _node("BatchNormalization", "x s b m v"),
        {"x": _x(5, 3)},
        {"s": _x(3), "b": _x(3), "m": _x(3), "v": np.abs(_x(3))},
    ),
    "Celu": (12, _node("Celu", "x", alpha=0.7), {"x": _x(9)}, {}),
    "Gelu": (20, _node("Gelu", "x", approximate="tanh"), {"x": _x(9)}, {}),
    "GridSample": (
        16,
        _node("GridSample", "x g", padding_mode="reflection"),
        {"x": _x(1, 2, 4, 5)},
        {"g": _x(1, 3, 3, 2)},
    ),
    "NonMaxSuppression": (
        11,
        _node("NonMaxSuppression", "x s n o t"),
        {"x": np.abs(_x(1, 20, 4))},
        {"s": _x(1, 2, 20), "n": np.array([5]), "o": np.float32([0.3]), "t": np.float32([-0.5])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnxruntime_does(name: str) -> None:
    opset, node, feeds, constants = CASES[name]
    assert max(_differences([node], feeds, tuple(node.output), constants, opset)) < TOLERANCE


def test_group_normalization_had_one_scale_per_group_before_opset_21() -> None:
    # onnx's checker refuses such models as deprecated; onnxruntime runs them.
    x, scale, bias = (torch.from_numpy(array) for array in (_x(2, 4, 3), _x(2), _x(2, seed=1)))
    before = group_norm(x, scale, bias, num_groups=2, opset=18)
    since = group_norm(x, scale.repeat_interleave(2), bias.repeat_interleave(2), num_groups=2, opset=21)
    assert torch.equal(before, since)


def test_the_input_s_length_is_no_constant() -> None:
    nodes = [
        _node("Shape", "x", "shape"),
        _node("Gather", "shape zero", "batch"),
        _node("Unsqueeze", "batch axes", "one"),
        _node("Concat", "one rest", "sides", axis=0),
        _node("Reshape", "x sides"),
    ]
    constants = {"zero": np.array(0), "axes": _i(0), "rest": _i(-1)}
    for batch in (1, 3):
        assert max(_differences(nodes, {"x": _x(batch, 2, 3)}, constants=constants)) == 0


@pytest.mark.parametrize("truth", [True, False])
def test_a_branch_sees_the_values_around_it(truth: bool) -> None:
    def branch(op: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("z", 1, [2, 3])
        return helper.make_graph([_node(op, "x w", "z")], op, [], [output])

    nodes = [_node("If", "c", then_branch=branch("Add"), else_branch=branch("Mul"))]
    feeds = {"x": _x(2, 3), "c": np.array(truth)}
    assert max(_differences(nodes, feeds, constants={"w": _x(2, 3, seed=1)})) < TOLERANCE


@pytest.mark.parametrize(
    ("attributes", "word"),
    [({"activations": ["Affine"]}, "'Affine'"), ({"activation_alpha": [0.3]}, "activation_alpha")],
)
def test_a_recurrent_network_with_an_unknown_activation_is_refused(attributes: dict[str, Any], word: str) -> None:
    nodes = [_node("RNN", "x w r", hidden_size=4, **attributes)]
    constants = {"w": _x(1, 4, 3), "r": _x(1, 4, 4)}
    data = _model(nodes, {"x": _x(5, 2, 3)}, ["y"], constants, 17)
    with pytest.raises(ModelError, match=word):
        TrainableGraph.from_model(load_bytes(data))


def test_gradients_are_those_of_finite_differences() -> None:
    nodes = [
        _node("Conv", "x w b", "c", pads=[1, 0, 1, 2]),
        _node("BatchNormalization", "c s t m v", "n"),
        _node("PRelu", "n slope", "p"),
        _node("Resize", "p - scales", "q", mode="linear"),
        _node("ReduceMean", "q", "r", axes=[2, 3], keepdims=0),
        _node("Gemm", "r g h", transB=1),
    ]
    constants = {
        "w": _x(3, 2, 3, 2), "b": _x(3), "s": _x(3), "t": _x(3), "m": _x(3), "v": np.ones(3, np.float32),
        "slope": _x(3, 1, 1), "scales": np.array([1, 1, 1.5, 2], np.float32), "g": _x(4, 3), "h": _x(4),
    }  # fmt: skip
    data = _model(nodes, {"x": _x(2, 2, 4, 5)}, ["y"], constants, 13)
    module = TrainableGraph.from_model(load_bytes(data)).double()
    names = list(module.parameters_by_name())
    x = torch.from_numpy(_x(2, 2, 4, 5)).double()

    def function(*values: Any) -> Any:
        keys = {f"weights.{module.weights.names[name]}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(module, keys, ({"x": x},))["y"]

    assert len(names) == 7
    parameters = [module.parameters_by_name()[name].detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(function, parameters, eps=1e-6, atol=1e-5)
