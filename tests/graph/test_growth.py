"""A small file must not take the machine's memory: constants that a graph makes out of few numbers are bounded."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sepconvert.errors import ModelError
from sepconvert.graph.growth import MOST_BYTES
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from tests.graph.models import load, model, weight

node = helper.make_node
ONE = {"one": np.ones((1, 1), np.float32)}
SIDES = {"sides": np.array([30_000, 30_000])}


def with_constant(*made: onnx.NodeProto, tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A convolution and what the mean of the value 'made' adds to it."""
    nodes = [
        *made,
        node("Conv", ["x", "w"], ["c"]),
        node("ReduceMean", ["made"], ["mean"], keepdims=0),
        node("Add", ["c", "mean"], ["y"]),
    ]
    return model(nodes, {"x": [1, 4, 9, 9]}, ["y"], {"w": weight((6, 4, 3, 3)), **tensors})


@pytest.mark.parametrize(
    ("made", "tensors"),
    [
        ([node("ConstantOfShape", ["sides"], ["made"])], SIDES),
        ([node("Expand", ["one", "sides"], ["made"])], SIDES | ONE),
        ([node("Tile", ["one", "sides"], ["made"])], SIDES | ONE),
        (
            [
                node("Shape", ["x"], ["shape"]),
                node("Mul", ["shape", "factors"], ["sides"]),
                node("ConstantOfShape", ["sides"], ["made"]),
            ],
            {"factors": np.array([1, 1, 3000, 3000])},
        ),
    ],
)
def test_a_constant_of_gigabytes_made_of_few_numbers_is_refused_and_its_node_named(made, tensors):
    with pytest.raises(
        ModelError, match=rf"{made[-1].op_type} 'made' makes a constant of \d+\.\d GB, although no input"
    ):
        infer_shapes(load(with_constant(*made, tensors=tensors)))


def test_such_a_constant_is_refused_in_a_branch_too():
    sides = node("Constant", [], ["sides"], value_ints=[30_000, 30_000])
    made = [sides, node("ConstantOfShape", ["sides"], ["inner"]), node("ReduceMean", ["inner"], ["m"], keepdims=0)]
    branch = helper.make_graph(made, "branch", [], [helper.make_tensor_value_info("m", 1, None)])
    chosen = node("If", ["flag"], ["made"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match=r"ConstantOfShape 'inner' makes a constant of 3\.6 GB"):
        infer_shapes(load(with_constant(chosen, tensors={"flag": np.array(True)})))


def test_what_an_input_makes_large_is_no_constant():
    sides = {"sides": np.array([1_000_000, 1, 1, 1])}
    shapes = infer_shapes(load(with_constant(node("Expand", ["x", "sides"], ["made"]), tensors=sides)))
    assert 4 * np.prod(shapes.shapes["made"]) > MOST_BYTES


def windowed(op_type: str, **attributes: object) -> onnx.ModelProto:
    weights = ["w"] if op_type.startswith("Conv") else []
    made = node(op_type, ["x", *weights], ["z"], name="wide", **attributes)
    return model([made, node("Relu", ["z"], ["y"])], {"x": [1, 4, 9, 9]}, ["y"], {"w": weight((4, 4, 3, 3))})


def resized(scale: float, image: int) -> onnx.ModelProto:
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Resize", ["p", "", "scales"], ["y"], name="wide")]
    scales = {"scales": np.array([1, 1, scale, scale], np.float32)}
    return model(nodes, {"x": [1, 32, image, image]}, ["y"], scales)


@pytest.mark.parametrize(
    "damaged",
    [
        windowed("Conv", pads=[1, 2**20, 1, 2**20]),
        windowed("MaxPool", kernel_shape=[2**20, 2**20], pads=[2**20 - 1] * 4),
        windowed("ConvTranspose", strides=[2**10, 2**10]),
        resized(1000, 9),
    ],
)
def test_pads_and_scales_that_make_gigabytes_of_a_small_image_are_refused_and_the_node_named(damaged):
    with pytest.raises(ModelError, match=r"'wide' makes \S+ GB out of \d+ positions: its pads, strides or sizes"):
        infer_shapes(load(damaged))


@pytest.mark.parametrize(
    "sound",
    [
        windowed("Conv", pads=[100] * 4),  # as fully convolutional nets from Caffe pad
        resized(1000, 200),  # a pooled image that is resized to what it was, nearly
    ],
)
def test_pads_and_scales_of_sound_models_are_not(sound):
    assert infer_shapes(load(sound)).shapes["y"]


@pytest.mark.parametrize(("pad", "refused"), [(2**20, True), (2**14, False)])
def test_pads_are_judged_by_themselves_where_the_size_of_the_input_is_unknown(pad, refused):
    nodes = [
        node("NonZero", ["x"], ["places"]),
        node("Cast", ["places"], ["z"], to=1),
        node("Reshape", ["z", "sides"], ["image"]),
        node("Conv", ["image", "w"], ["y"], name="wide", pads=[1, pad, 1, pad]),
    ]
    known = {"w": weight((4, 4, 3, 3)), "sides": np.array([1, 4, 9, -1])}
    made = load(model(nodes, {"x": [1, 4, 9, 9]}, ["y"], known))
    if refused:
        with pytest.raises(ModelError, match=r"Conv 'wide' pads an input of unknown size to 6,291,459 positions"):
            infer_shapes(made)
    else:
        assert infer_shapes(made).shapes["image"] == (1, 4, 9, None)


def test_large_weights_that_are_converted_are_no_growth(tmp_path):
    large = weight((6, 4, 3, 3))
    proto = with_constant(node("Cast", ["half"], ["made"], to=1), tensors={"half": large.astype(np.float16)})
    # As large as nobody's test machine has to hold: only the declared sizes are read.
    (half,) = (tensor for tensor in proto.graph.initializer if tensor.name == "half")
    half.ClearField("raw_data")
    half.dims[:] = [2**15, 2**14]
    half.data_location = onnx.TensorProto.EXTERNAL
    half.external_data.add(key="location", value="w.bin")
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2 * 2**29)
    onnx.save(proto, tmp_path / "m.onnx")
    assert infer_shapes(load_model(tmp_path / "m.onnx")).shapes["made"] == (2**15, 2**14)
