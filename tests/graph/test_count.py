"""Costs against hand arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.graph.contractions import CONVOLUTIONS, is_contraction
from sepconvert.graph.count import count_totals, macs_by_output
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.without_macs import WITHOUT_MACS
from sepconvert.record import Totals, Uncounted
from tests.graph.models import conv_model, load, model, weight


def totals(proto: onnx.ModelProto, sites: Sequence[str] = (), **input_shapes: Sequence[int]) -> Totals:
    loaded = load(proto)
    return count_totals(loaded, infer_shapes(loaded, input_shapes), sites)


def one_node(
    op: str, inputs: dict[str, Sequence[int]], tensors: dict[str, Any] | None = None, opset: int = 17, **attributes: Any
) -> Totals:
    node = helper.make_node(op, [*inputs, *(tensors or {})], ["y"], **attributes)
    return totals(model([node], inputs, tensors=tensors, opset=opset))


def test_a_conv_costs_its_weights_times_its_output_positions():
    found = totals(conv_model((6, 4, 3, 5), image=(1, 4, 12, 11), strides=[2, 1], bias=True), ["y"])
    # Output: (12 - 3) // 2 + 1 = 5 rows of 11 - 5 + 1 = 7.
    macs = 6 * 4 * 3 * 5 * 5 * 7
    assert (found.macs, found.conv_macs, found.site_macs, found.flops) == (macs, macs, macs, 2 * macs)
    assert found.params == 6 * 4 * 3 * 5 + 6
    assert found.uncounted == []


def test_a_grouped_conv_costs_a_group_th():
    assert totals(conv_model((8, 2, 3, 3), group=2, image=(1, 4, 9, 9))).macs == 8 * 2 * 9 * 49


def test_a_one_dimensional_conv():
    assert totals(conv_model((6, 4, 5), image=(1, 4, 20))).macs == 6 * 4 * 5 * 16


@pytest.mark.parametrize("batch", [1, 4])
def test_figures_are_per_sample(batch):
    assert totals(conv_model(image=(batch, 4, 9, 9))).macs == 6 * 4 * 9 * 49


def test_a_network_that_folds_tiles_into_its_batch_pays_for_each():
    sizes = np.array([-1, 4, 9, 9], np.int64)
    nodes = [helper.make_node("Reshape", ["x", "s"], ["tiles"]), helper.make_node("Conv", ["tiles", "w"], ["y"])]
    proto = model(nodes, {"x": (2, 12, 9, 9)}, tensors={"s": sizes, "w": weight((6, 4, 3, 3))})
    assert totals(proto).macs == 3 * 6 * 4 * 9 * 49


def test_a_transposed_conv_costs_its_weights_times_its_input_positions():
    found = one_node("ConvTranspose", {"x": (1, 4, 5, 6)}, {"w": weight((4, 7, 3, 3))}, strides=[2, 2])
    assert (found.macs, found.conv_macs) == (5 * 6 * 4 * 7 * 9,) * 2


def test_an_integer_conv_counts_and_its_weights_are_parameters():
    nodes = [helper.make_node("ConvInteger", ["x", "w"], ["h"]), helper.make_node("Cast", ["h"], ["y"], to=2)]
    tensors = {"w": weight((6, 4, 3, 3)).astype(np.uint8)}
    found = totals(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors, dtype=np.uint8))
    assert (found.conv_macs, found.params) == (6 * 4 * 9 * 49, 6 * 4 * 9)


def test_a_quantized_conv_counts():
    names = ["x", "s", "z", "w", "s", "z", "s", "z"]
    tensors = {"s": np.float32(0.1), "z": np.uint8(3), "w": weight((6, 4, 3, 3)).astype(np.uint8)}
    node = helper.make_node("QLinearConv", names, ["y"])
    assert totals(model([node], {"x": (1, 4, 9, 9)}, tensors=tensors, dtype=np.uint8)).conv_macs == 6 * 4 * 9 * 49


@pytest.mark.parametrize(
    ("left", "right", "trans"), [((5, 7), (7, 3), {}), ((7, 5), (3, 7), {"transA": 1, "transB": 1})]
)
def test_a_gemm_costs_rows_times_columns_times_the_shared_side_whichever_is_transposed(left, right, trans):
    found = one_node("Gemm", {"x": left}, {"w": weight(right)}, **trans)
    assert (found.macs, found.conv_macs) == (5 * 7 * 3, 0)


@pytest.mark.parametrize(
    ("left", "right", "macs"),
    [
        ((5, 7), (7, 3), 105),
        ((2, 5, 7), (7, 3), 210),
        ((4, 1, 5, 7), (2, 7, 3), 840),
        ((7,), (7, 3), 21),
        ((5, 7), (7,), 35),
    ],
)
def test_a_matrix_product_costs_its_output_times_the_shared_side(left, right, macs):
    assert one_node("MatMul", {"x": left}, {"w": weight(right)}).macs == macs


@pytest.mark.parametrize(
    ("equation", "macs"), [("bij,bjk->bik", 2 * 3 * 4 * 5), ("bij,bjk", 120), ("b i j, b j k -> k", 120)]
)
def test_an_einsum_of_two_costs_the_product_of_its_indices(equation, macs):
    assert one_node("Einsum", {"a": (2, 3, 4), "b": (2, 4, 5)}, equation=equation).macs == macs


def test_an_einsum_of_three_is_listed_and_leaves_the_macs_unknown():
    found = one_node("Einsum", {"a": (2, 3), "b": (3, 4), "c": (4, 5)}, equation="ij,jk,kl->il")
    assert (found.macs, found.flops) == (None, None)
    assert found.conv_macs == 0
    assert found.uncounted == [Uncounted("Einsum", 1)]


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_cost_two_products_per_step_and_gate(op, gates):
    steps, batch, features, hidden = 5, 2, 3, 4
    tensors = {"w": weight((1, gates * hidden, features)), "r": weight((1, gates * hidden, hidden))}
    found = one_node(op, {"x": (steps, batch, features)}, tensors, hidden_size=hidden)
    assert found.macs == steps * batch * gates * hidden * (features + hidden)


def test_attention_costs_two_products_per_head():
    batch, heads, queries, keys, width, depth = 1, 3, 5, 7, 4, 6
    inputs = {"q": (batch, heads, queries, width), "k": (batch, heads, keys, width), "v": (batch, heads, keys, depth)}
    assert one_node("Attention", inputs, opset=23).macs == batch * heads * queries * keys * (width + depth)
    flat = {"q": (batch, queries, 12), "k": (batch, keys, 12), "v": (batch, keys, 18)}
    found = one_node("Attention", flat, opset=23, q_num_heads=3, kv_num_heads=3)
    assert found.macs == batch * heads * queries * keys * (width + depth)


def test_constant_subgraphs_cost_nothing():
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    found = totals(model(nodes, {"x": (20, 20)}, tensors={"a": weight((20, 30)), "b": weight((30, 20))}))
    assert found.macs == 0


def test_an_operator_without_a_formula_is_listed():
    nodes = [helper.make_node("Det", ["x"], ["y"]), helper.make_node("Frob", ["x"], ["z"], domain="com.example")]
    found = totals(model(nodes, {"x": (3, 3)}, ["y", "z"], domains={"com.example": 1}))
    assert found.uncounted == [Uncounted("Det", 1), Uncounted("com.example.Frob", 1)]
    assert found.macs == 0


@pytest.mark.parametrize(("op", "conv_macs"), [("NhwcConv", None), ("FusedMatMul", 0), ("MultiHeadAttention", 0)])
def test_a_foreign_operator_that_surely_multiplies_makes_the_macs_unknown(op, conv_macs):
    node = helper.make_node(op, ["x"], ["y"], domain="com.microsoft")
    found = totals(model([node], {"x": (1, 4, 9, 9)}, domains={"com.microsoft": 1}))
    assert (found.macs, found.flops, found.conv_macs) == (None, None, conv_macs)
    assert found.uncounted == [Uncounted(f"com.microsoft.{op}", 1)]


def test_unknown_shapes_make_figures_unknown_and_are_listed():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    tensors = {"w": weight((6, 4, 3, 3)), "v": weight((6, 6, 3, 3))}
    found = totals(model(nodes, {"x": (1, 4, "h", 9)}, tensors=tensors), ["h"])
    assert (found.macs, found.flops, found.conv_macs, found.site_macs) == (None,) * 4
    assert found.uncounted == [Uncounted("Conv", 2)]
    assert found.params == 6 * 4 * 9 + 6 * 6 * 9


def test_macs_by_output_lists_contractions_alone():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"], pads=[1] * 4),
    ]
    tensors = {"w": weight((6, 4, 3, 3)), "v": weight((5, 6, 3, 3))}
    loaded = load(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors))
    expected = {"h": 6 * 4 * 9 * 49, "y": 5 * 6 * 9 * 49}
    assert macs_by_output(loaded, infer_shapes(loaded)) == expected
    assert count_totals(loaded, infer_shapes(loaded), ["y"]).site_macs == expected["y"]


def test_functions_count_as_inlined():
    conv = helper.make_node("Conv", ["a", "b"], ["c"])
    function = helper.make_function("local", "Block", ["a", "b"], ["c"], [conv], [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Block", [a, w], [b], domain="local") for a, w, b in (("x", "w", "h"), ("h", "v", "y"))]
    tensors = {"w": weight((6, 4, 3, 3)), "v": weight((6, 6, 3, 3))}
    proto = model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors, functions=[function], domains={"local": 1})
    found = totals(proto)
    assert found.macs == 6 * 4 * 9 * 49 + 6 * 6 * 9 * 25
    assert found.uncounted == []


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    info = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [info])


def test_of_an_if_the_dearer_branch_counts():
    cheap = branch("cheap", helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2]))
    dear = branch("dear", helper.make_node("Conv", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["b"]))
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=cheap, else_branch=dear),
    ]
    found = totals(model(nodes, {"x": (1, 4, 9, 9)}, tensors={"w": weight((6, 4, 3, 3))}))
    assert found.conv_macs == 6 * 4 * 9 * 49
    assert found.uncounted == []


def loop(*body: onnx.NodeProto) -> onnx.ModelProto:
    """Add what ``body`` makes of x (named t) to a state, three times."""
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
    ]
    nodes = [*body, helper.make_node("Add", ["state", "t"], ["next"]), helper.make_node("Identity", ["go"], ["on"])]
    graph = helper.make_graph(nodes, "body", inputs, outputs)
    node = helper.make_node("Loop", ["n", "c", "x"], ["y"], body=graph)
    tensors = {"n": np.array(3, np.int64), "c": np.array(True), "w": weight((4, 4, 3, 3))}
    return model([node], {"x": (1, 4, 9, 9)}, tensors=tensors)


def test_a_loop_is_listed_and_makes_the_macs_unknown_if_it_holds_any():
    found = totals(loop(helper.make_node("Relu", ["x"], ["t"])))
    assert (found.macs, found.uncounted) == (0, [Uncounted("Loop", 1)])
    found = totals(loop(helper.make_node("Conv", ["x", "w"], ["t"], pads=[1] * 4)))
    assert (found.macs, found.conv_macs) == (None, None)
    assert found.uncounted == [Uncounted("Conv", 1), Uncounted("Loop", 1)]


# Parameters.


def test_parameters_count_once_however_often_they_are_used_and_not_where_unused():
    nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[1] * 4) for a, b in (("x", "h"), ("h", "y"))]
    tensors = {"w": weight((4, 4, 3, 3)), "unused": weight((100,)), "integers": np.arange(9)}
    assert totals(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors)).params == 144


def test_constant_nodes_and_fixed_fills_are_parameters():
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight((4, 4, 3, 3)))),
        helper.make_node("ConstantOfShape", ["s"], ["v"], value=helper.make_tensor("", 1, [1], [0.5])),
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Conv", ["h", "v"], ["y"]),
    ]
    tensors = {"s": np.array([2, 4, 5, 5], np.int64)}
    assert totals(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors)).params == 144 + 200


def test_a_fill_whose_size_depends_on_the_input_is_no_parameter():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["v"]),
        helper.make_node("Add", ["x", "v"], ["y"]),
    ]
    assert totals(model(nodes, {"x": (1, 4, 9, 9)})).params == 0


# Real networks, against published figures.


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    # torchvision's figures for the same nets: 25.56 M and 4.09 G; 143.67 M and 19.63 G; 1.24 M and 0.35 G.
    [("resnet50", 25.6e6, 4.09), ("vgg19", 143.67e6, 19.63), ("squeezenet", 1.24e6, 0.35)],
)
def test_well_known_networks_have_their_published_cost(name, params, gmacs, light_models):
    (path,) = [path for path in light_models if path.name == f"light_{name}.onnx"]
    loaded = load_model(path)
    found = count_totals(loaded, infer_shapes(loaded), [])
    assert found.macs is not None
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=0.005)
    assert found.params == pytest.approx(params, rel=0.005)


def test_nothing_in_the_real_models_is_uncounted(model_zoo, light_models):
    for path in [*model_zoo.glob("*.onnx"), *light_models]:
        loaded = load_model(path)
        given = {"x": (1, 3, 64, 96)} if "ch_" in path.name else {}
        if "rec" in path.name or "cls" in path.name:
            given = {"x": (1, 3, 48, 192)}
        assert count_totals(loaded, infer_shapes(loaded, given), []).uncounted == []


def test_no_standard_operator_both_counts_and_counts_nothing():
    for schema in onnx.defs.get_all_schemas():
        if schema.domain == "":
            node = helper.make_node(schema.name, ["a", "b"], ["y"])
            assert not (is_contraction(node) and schema.name in WITHOUT_MACS), schema.name


def test_convolutions_are_contractions():
    for name in CONVOLUTIONS:
        domain, _, op = name.rpartition(".")
        assert is_contraction(helper.make_node(op, ["x", "w"], ["y"], domain=domain))
