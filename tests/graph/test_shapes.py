from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.errors import ModelError, UsageError
from sepconvert.graph.inputs import suggested_size
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.record import InputInfo
from tests.graph.models import conv_model, load, model, weight


def inferred(proto: onnx.ModelProto, **input_shapes) -> Shapes:
    return infer_shapes(load(proto), input_shapes)


def unknown_values(shapes: Shapes) -> list[str]:
    """Values without a full shape, second outputs such as Dropout's mask left out."""
    firsts = [node.output[0] for node in shapes.graph.node]
    return [name for name in firsts if shapes.shapes[name] is None or None in shapes.shapes[name]]


@pytest.mark.parametrize(
    ("fixture", "given"),
    [
        ("open_nsfw", {}),
        ("open_nsfw", {"input_0": (3, 224, 224, 3)}),
        ("ppocr_det", {"x": (1, 3, 640, 640)}),
        ("ppocr_det", {"x": (2, 3, 320, 480)}),
        ("ppocr_rec", {"x": (1, 3, 48, 320)}),
        ("ppocr_cls", {"x": (1, 3, 48, 192)}),
    ],
)
def test_the_real_models_resolve_fully(fixture, given, request):
    shapes = infer_shapes(load_model(request.getfixturevalue(fixture)), given)
    assert unknown_values(shapes) == []
    assert shapes.warnings == ()


def test_the_light_models_resolve_fully(light_models):
    for path in light_models:
        assert unknown_values(infer_shapes(load_model(path))) == []


def test_inferred_shapes_are_those_of_the_arrays_onnxruntime_makes(ppocr_rec):
    from sepconvert.runtime.sessions import run_model

    shapes = infer_shapes(load_model(ppocr_rec), {"x": (1, 3, 48, 160)})
    proto = onnx.load(ppocr_rec)
    names = [node.output[0] for node in shapes.graph.node]
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    arrays = run_model(proto.SerializeToString(), {"x": np.zeros((1, 3, 48, 160), np.float32)}, names)
    assert {name: arrays[name].shape for name in names} == {name: shapes.shapes[name] for name in names}
    assert {name: arrays[name].dtype.name for name in names} == {name: shapes.dtypes[name] for name in names}


def test_a_dynamic_first_dimension_counts_as_1():
    shapes = inferred(conv_model(image=("n", 4, 9, 9)))
    assert shapes.shapes["y"] == (1, 6, 7, 7)
    (info,) = shapes.inputs
    assert (info.declared_shape, info.used_shape) == (["n", 4, 9, 9], [1, 4, 9, 9])
    assert shapes.warnings == ()


def test_other_dynamic_dimensions_give_one_warning_that_says_what_to_pass():
    shapes = inferred(conv_model(image=("n", 4, "h", None)))
    assert shapes.shapes["y"] == (1, 6, None, None)
    (warning,) = shapes.warnings
    assert "'x'" in warning
    assert "--input x:1x4x224x224" in warning


def test_the_size_that_is_suggested_takes_one_sample_wherever_the_batch_is() -> None:
    info = InputInfo("state", "float32", [2, "batch", "steps"], [2, None, None])
    assert suggested_size(info) == "--input state:2x1x224"
    assert suggested_size(replace(info, used_shape=None)) == "--input state:1x3x224x224"


def test_two_unknown_inputs_still_give_one_warning():
    add = helper.make_node("Add", ["a", "b"], ["y"])
    (warning,) = inferred(model([add], {"a": (1, "h"), "b": (1, "w")})).warnings
    assert "--input a:1x224 --input b:1x224" in warning


def test_minus_one_is_read_as_dynamic():
    shapes = inferred(conv_model(image=(-1, 4, -1, 9)))
    assert shapes.inputs[0].declared_shape == [None, 4, None, 9]
    assert shapes.inputs[0].used_shape == [1, 4, None, 9]


def test_given_shapes_resolve_dimensions():
    shapes = inferred(conv_model(image=("n", 4, "h", "w")), x=(2, 4, 20, 10))
    assert shapes.shapes["y"] == (2, 6, 18, 8)
    assert shapes.batch == 2
    assert shapes.warnings == ()


def test_a_dimension_given_for_one_input_holds_for_all_of_that_name():
    add = helper.make_node("Add", ["a", "b"], ["y"])
    shapes = inferred(model([add], {"a": ("n", "h"), "b": ("n", "h")}), a=(3, 5))
    assert [info.used_shape for info in shapes.inputs] == [[3, 5], [3, 5]]


def test_a_question_mark_names_no_dimension():
    add = helper.make_node("Add", ["a", "b"], ["y"])
    shapes = inferred(model([add], {"a": (1, "?"), "b": (1, "?")}), a=(1, 5))
    assert shapes.inputs[1].used_shape == [1, None]


@pytest.mark.parametrize(
    ("name", "shape", "error", "words"),
    [
        ("z", (1, 4, 9, 9), UsageError, "the model's inputs are x"),
        ("x", (1, 4, 9), UsageError, "has 3 dimensions"),
        ("x", (1, 4, 0, 9), UsageError, "below 1"),
        ("x", (1, 4, -1, 9), UsageError, "below 1"),
        ("x", (1, 5, 9, 9), ModelError, "contradicts"),
    ],
)
def test_input_shapes_that_do_not_fit_are_refused(name, shape, error, words):
    with pytest.raises(error, match=words) as raised:
        inferred(conv_model(image=("n", 4, "h", 9)), **{name: shape})
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


def test_a_zero_sized_input_is_refused():
    with pytest.raises(ModelError, match="zero-sized dimension"):
        inferred(conv_model(image=(1, 4, 0, 9)))


@pytest.mark.parametrize("size", [1, 2])
def test_an_input_too_small_for_the_network_is_refused(size):
    with pytest.raises(ModelError, match=r"too small|contradict"):
        inferred(conv_model(image=(1, 4, "h", "w")), x=(1, 4, size, size))


def test_an_empty_weight_is_named_and_not_the_input() -> None:
    with pytest.raises(ModelError, match=r"Conv 'conv' has an empty weight, \[0, 4, 3, 3\]"):
        inferred(conv_model((0, 4, 3, 3)))


def test_an_input_may_be_a_scalar_or_have_no_shape():
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": ()})
    assert inferred(proto).shapes["y"] == ()


def shape_chain() -> onnx.ModelProto:
    """x (n, 4, 6) → (n, 24) by sizes that the graph computes: Shape, Gather, Mul, Concat; then halved by a Slice."""
    ints = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "axis": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Gather", ["s", "one"], ["c"], axis=0),
        helper.make_node("Gather", ["s", "two"], ["w"], axis=0),
        helper.make_node("Mul", ["c", "w"], ["cw"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Unsqueeze", ["cw", "axis"], ["cw1"]),
        helper.make_node("Concat", ["n1", "cw1"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        # A second stage, which can only be resolved once the first is.
        helper.make_node("Shape", ["flat"], ["s2"]),
        helper.make_node("Cast", ["s2"], ["f2"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f2", "half"], ["halved"]),
        helper.make_node("Floor", ["halved"], ["floored"]),
        helper.make_node("Cast", ["floored"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["sizes"], ["zeros"]),
        helper.make_node("MatMul", ["flat", "v"], ["m"]),
        helper.make_node("Concat", ["m", "zeros"], ["y"], axis=1),
    ]
    tensors = ints | {"half": np.array([1, 2], np.float32), "v": weight((24, 5))}
    return model(nodes, {"x": ("n", 4, 6)}, tensors=tensors)


def test_sizes_that_the_graph_computes_from_shapes_are_followed():
    shapes = inferred(shape_chain(), x=(3, 4, 6)).shapes
    assert shapes["flat"] == (3, 24)
    assert shapes["zeros"] == (3, 12)
    assert shapes["y"] == (3, 17)


def test_the_given_model_is_not_changed():
    loaded = load(shape_chain())
    before = onnx_bytes(loaded.ir)
    infer_shapes(loaded, {"x": (2, 4, 6)})
    assert onnx_bytes(loaded.ir) == before


def onnx_bytes(ir_model) -> bytes:
    import onnx_ir

    return onnx_ir.to_proto(ir_model).SerializeToString(deterministic=True)


def test_a_fixed_batch_that_nobody_could_run_is_refused():
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    tensors = {"w": weight((6, 4, 3, 3))}
    with pytest.raises(
        ModelError, match=r"Input 'x' has a fixed batch of 1,048,576 samples \(1048576x4x8x8\), 268,435,456 values"
    ):
        inferred(model([conv], {"x": (1 << 20, 4, 8, 8)}, tensors=tensors))
    for batch, side in ((1 << 16, 16), (1 << 17, 8)):
        shapes = inferred(model([conv], {"x": (batch, 4, side, side)}, tensors=tensors)).shapes
        assert shapes["y"] == (batch, 6, side - 2, side - 2)


def calling(inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """A model whose one node calls a function of two inputs and one output."""
    body = [helper.make_node("Conv", ["a", "b"], ["t"]), helper.make_node("Relu", ["t"], ["c"])]
    function = helper.make_function("local", "Block", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    node = helper.make_node("Block", inputs, outputs, domain="local")
    tensors = {"w": weight((6, 4, 3, 3))}
    return model([node], {"x": (1, 4, 9, 9)}, tensors=tensors, functions=[function], domains={"local": 1})


def test_functions_are_looked_into():
    assert inferred(calling(["x", "w"], ["y"])).shapes["y"] == (1, 6, 7, 7)


@pytest.mark.parametrize(("inputs", "outputs"), [(["x", "w", "w"], ["y"]), (["x", "w"], ["y", "more"])])
def test_a_call_with_more_than_its_function_takes_or_gives_is_refused(inputs, outputs):
    with pytest.raises(ModelError, match=r"a call does not fit its function \(.*\); export it again\.$"):
        inferred(calling(inputs, outputs))


def test_what_the_model_declares_of_other_domains_is_believed():
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["h"], domain="com.example"),
        helper.make_node("Conv", ["h", "w"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 4, 9, 9)}, tensors={"w": weight((6, 4, 3, 3))}, domains={"com.example": 1})
    (warning,) = inferred(proto).warnings
    assert "'y' (Conv)" in warning
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 4, 9, 9]))
    shapes = inferred(proto)
    assert shapes.shapes["y"] == (1, 6, 7, 7)
    assert shapes.warnings == ()


def test_what_the_model_declares_of_standard_operators_is_inferred_afresh():
    proto = conv_model(image=("n", 4, "h", "w"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 100, 100]))
    assert inferred(proto, x=(1, 4, 9, 9)).shapes["y"] == (1, 6, 7, 7)


def test_a_batch_is_what_all_inputs_and_convolutions_share():
    assert inferred(conv_model(image=(5, 4, 9, 9))).batch == 5
    unbatched = [helper.make_node("Unsqueeze", ["x", "axes"], ["h"]), helper.make_node("Conv", ["h", "w"], ["y"])]
    tensors = {"w": weight((6, 4, 3, 3)), "axes": np.array([0], np.int64)}
    assert inferred(model(unbatched, {"x": (4, 9, 9)}, tensors=tensors)).batch == 1
    relu = helper.make_node("Relu", ["x"], ["y"])
    assert inferred(model([relu], {"x": (5, 4)})).batch == 1


def test_dtypes_are_spelled_like_numpys():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": (1, 4, 9, 9)}, ["y"], {"w": weight((6, 4, 3, 3), np.float16)}, dtype=np.float16)
    dtypes = inferred(proto).dtypes
    assert (dtypes["x"], dtypes["w"], dtypes["y"], dtypes["s"]) == ("float16", "float16", "float16", "int64")


def test_a_large_constant_keeps_its_shape_and_type():
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight((600, 4, 3, 3)))),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    shapes = inferred(model(nodes, {"x": (1, 4, 9, 9)}))
    assert shapes.shapes["w"] == (600, 4, 3, 3)
    assert shapes.constants == {"w"}


def test_a_default_value_of_an_input_is_used_but_need_not_be_fed():
    proto = conv_model(opset=8)
    proto.ir_version = 4
    shapes = inferred(proto)
    assert [info.name for info in shapes.inputs] == ["x"]
    assert shapes.shapes["y"] == (1, 6, 7, 7)


def test_large_weights_inside_subgraphs_are_left_out_of_inference():
    big = numpy_helper.from_array(weight((400, 300)), "big")
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "big"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        [big],
    )
    nested = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight((400, 300))))
    outer = helper.make_graph(
        [nested, helper.make_node("MatMul", ["x", "k"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=outer)
    shapes = inferred(model([node], {"x": (1, 400)}, tensors={"c": np.array(True)}))
    assert shapes.shapes["y"] == (1, 300)
    assert shapes.graph.ByteSize() < 10_000


def test_an_output_that_is_an_input_too_has_the_size_that_is_used() -> None:
    proto = conv_model(image=("n", 4, 9, 9))
    proto.graph.output.append(proto.graph.input[0])
    shapes = inferred(proto)
    assert shapes.shapes["y"] == (1, 6, 7, 7)
    assert shapes.warnings == ()
