"""The exact oracle over every kind of layer: grouped, transposed, 3-D, spanning an axis, pointwise and linear."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, GROUPED, LINEAR, TRANSPOSED, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import FORMS, applies, draw, factorise, full_rank, lowerings
from sepconvert.verify.oracle import check_rewrite
from tests.graph.site_models import IR_VERSIONS, loaded
from tests.separable.strategies import seeds

WAYS = [(form, lowering) for form in sorted(FORMS) for lowering in lowerings(form, 2)]
OPSETS = [opset for opset in sorted(IR_VERSIONS) if opset >= 11]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def one_layer(
    operator: str,
    given: list[int],
    shapes: dict[str, tuple[int, ...]],
    attributes: dict[str, Any],
    rng: np.random.Generator,
    dtype: str = "float32",
    opset: int = 18,
    adding: bool = False,
) -> LoadedModel:
    """``x → operator(w, b) → y → Abs → z``; with ``adding`` the bias is an Add's."""
    tensors = [numpy_helper.from_array(rng.normal(size=size).astype(dtype), name) for name, size in shapes.items()]
    kind = TYPES[dtype]
    inputs = [helper.make_tensor_value_info("x", kind, given)]
    product = "product" if adding else "y"
    own = [name for name in shapes if name != "b" or not adding]
    nodes = [helper.make_node(operator, ["x", *own], [product], name="layer", **attributes)]
    if adding:
        nodes.append(helper.make_node("Add", [product, "b"], ["y"], name="bias"))
    nodes.append(helper.make_node("Abs", ["y"], ["z"], name="abs"))
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("z", kind, None)], initializer=tensors)
    ir_version = max(IR_VERSIONS[opset], 4)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    proto = onnx.shape_inference.infer_shapes(proto)
    onnx.checker.check_model(proto)
    return loaded(proto)


def the_site(model: LoadedModel) -> ConvSite:
    (site,) = survey(model, infer_shapes(model)).sites
    return site


def suits(model: LoadedModel, form: str, rank: int, lowering: str) -> bool:
    """Whether the form and the lowering are for this layer."""
    geometry = the_site(model).geometry
    return applies(form, geometry) and lowering in lowerings(form, rank, geometry.groups)


def check(model: LoadedModel, form: str, rank: int, lowering: str, rng: np.random.Generator, new_bias: bool) -> None:
    """The oracle on random factors: it raises where the new nodes compute something else."""
    site = the_site(model)
    bias = rng.normal(size=site.geometry.out_channels) if new_bias else None
    replacement = Replacement(site, draw(form, site.geometry, rank, rng), lowering, bias)
    assert check_rewrite(model, rewrite_model(model, [replacement]), [replacement], rng).sites == 1


def exact(model: LoadedModel, form: str, rng: np.random.Generator) -> None:
    """Factors of full rank compute what the layer computed."""
    site = the_site(model)
    kernel = read_kernel(model, site).astype(np.float64)
    rank = full_rank(form, site.geometry)
    factors = factorise(form, kernel, rank, site.geometry, rng)
    after = rewrite_model(model, [Replacement(site, factors, lowerings(form, rank, site.geometry.groups)[0])]).model
    (given,) = infer_shapes(model).inputs
    x = rng.normal(size=given.used_shape).astype(np.float32)
    one, two = (run_model(model_bytes(each), {"x": x})["z"] for each in (model, after))
    np.testing.assert_allclose(two, one, atol=2e-4 * float(np.abs(one).max()))


@st.composite
def grouped(draw_: Any, transposed: bool) -> tuple[list[int], dict[str, tuple[int, ...]], dict[str, Any]]:
    """Input, weights and attributes of a Conv or ConvTranspose with one to three groups and one to three axes."""
    axes = draw_(st.integers(1, 2 if transposed else 3))
    groups = draw_(st.integers(1, 3))
    channels, outputs = draw_(st.integers(2, 4)), draw_(st.integers(1, 4))
    kernel = draw_(st.tuples(st.integers(2, 3), *[st.integers(1, 3)] * (axes - 1)))
    stride, dilation = (draw_(st.tuples(*[st.integers(1, 3)] * axes)) for _ in range(2))
    pads = draw_(st.tuples(*[st.integers(0, 1)] * (2 * axes)))
    attributes: dict[str, Any] = {"strides": stride, "dilations": dilation, "group": groups}
    auto_pad = draw_(st.sampled_from(["", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad and max(dilation) == 1:
        attributes["auto_pad"] = auto_pad
    else:
        attributes["pads"] = pads
    weight = (channels * groups, outputs, *kernel) if transposed else (outputs * groups, channels, *kernel)
    if transposed:
        more = tuple(draw_(st.integers(0, side - 1)) for side in stride)
        attributes["output_padding"] = more if draw_(st.booleans()) and not attributes.get("auto_pad") else (0,) * axes
    shapes = {"w": weight} | ({"b": (outputs * groups,)} if draw_(st.booleans()) else {})
    return [1, channels * groups, *[7 + axis for axis in range(axes)]], shapes, attributes


@pytest.mark.parametrize(("form", "lowering"), WAYS)
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
@given(layer=grouped(transposed=False), rank=st.integers(1, 3), opset=st.sampled_from(OPSETS), seed=seeds)
def test_groups_and_three_axes(form, lowering, layer, rank, opset, seed):
    rng = np.random.default_rng(seed)
    model = one_layer("Conv", *layer, rng, opset=opset)
    assume(suits(model, form, rank, lowering))
    check(model, form, rank, lowering, rng, new_bias=bool(seed % 2))


@pytest.mark.parametrize(("form", "lowering"), WAYS)
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
@given(layer=grouped(transposed=True), rank=st.integers(1, 3), opset=st.sampled_from(OPSETS), seed=seeds)
def test_transposed(form, lowering, layer, rank, opset, seed):
    rng = np.random.default_rng(seed)
    model = one_layer("ConvTranspose", *layer, rng, opset=opset)
    assert the_site(model).layer == TRANSPOSED
    assume(suits(model, form, rank, lowering))
    check(model, form, rank, lowering, rng, new_bias=bool(seed % 2))


@pytest.mark.parametrize(
    ("operator", "dtype"), [("Conv", "float16"), ("Conv", "float64"), ("ConvTranspose", "float16")]
)
@pytest.mark.parametrize("form", sorted(FORMS))
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data(), seed=seeds)
def test_groups_and_transposed_layers_in_other_types(form, operator, dtype, data, seed):
    # onnx's reference ConvTranspose, which would run float64, knows no groups.
    rng = np.random.default_rng(seed)
    layer = data.draw(grouped(transposed=operator == "ConvTranspose"))
    model, lowering = one_layer(operator, *layer, rng, dtype), lowerings(form, 2)[-1]
    assume(suits(model, form, 2, lowering))
    check(model, form, 2, lowering, rng, new_bias=True)


GROUPS = ([1, 6, 9, 8], {"w": (9, 2, 3, 2), "b": (9,)}, {"group": 3, "pads": [1, 0, 1, 1], "strides": [2, 1]})
UPSAMPLING = (
    [1, 6, 5, 6],
    {"w": (6, 4, 3, 2), "b": (8,)},
    {"group": 2, "pads": [1, 0, 0, 1], "strides": [2, 3], "output_padding": [1, 2]},
)
VOLUME = ([1, 3, 5, 6, 7], {"w": (4, 3, 3, 2, 2), "b": (4,)}, {"pads": [1, 0, 0, 1, 1, 1]})


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("layer", [GROUPS, UPSAMPLING, VOLUME], ids=["grouped", "transposed", "3-D"])
def test_at_full_rank_the_layer_computes_what_it_did(form, layer):
    rng = np.random.default_rng(0)
    model = one_layer("ConvTranspose" if layer is UPSAMPLING else "Conv", *layer, rng)
    if not applies(form, the_site(model).geometry):
        pytest.skip("the form does not apply to this layer")
    exact(model, form, rng)


def test_a_kernel_that_spans_an_axis_is_a_convolution_along_the_other():
    for given_, weight in (([1, 1, 12, 7], (5, 1, 3, 7)), ([1, 1, 7, 12], (5, 1, 7, 3))):
        model = one_layer("Conv", given_, {"w": weight, "b": (5,)}, {}, np.random.default_rng(1))
        site = the_site(model)
        assert (site.layer, site.geometry.in_channels, sorted(site.geometry.kernel)) == (CONV, 7, [1, 3])
        assert site.geometry.dense_cost.macs == 5 * 7 * 3 * 10
        for form, lowering in WAYS:
            check(model, form, 2, lowering, np.random.default_rng(2), new_bias=True)
            exact(model, form, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("form", "turned"), [("dw_pw", True), ("pw_dw", False), ("pw_dw_pw", False), ("conv_pw", False)]
)
def test_the_map_is_turned_only_for_layers_that_work_on_the_spanned_channels_one_by_one(form, turned):
    model = one_layer("Conv", [1, 1, 12, 7], {"w": (5, 1, 3, 7), "b": (5,)}, {}, np.random.default_rng(1))
    site = the_site(model)
    factors = draw(form, site.geometry, 2, np.random.default_rng(2))
    for lowering in lowerings(form, 2):
        written = rewrite_model(model, [Replacement(site, factors, lowering)]).model
        assert ("Transpose" in {node.op_type for node in written.ir.graph}) == turned


def test_a_kernel_that_spans_an_axis_of_unknown_size_is_left_as_it_is():
    model = one_layer("Conv", [1, 1, 12, 9], {"w": (5, 1, 3, 7)}, {}, np.random.default_rng(1))
    assert the_site(model).geometry.in_channels == 1


LINEAR_LAYERS = {
    "gemm": ("Gemm", [4, 6], {"w": (5, 6), "b": (5,)}, {"transB": 1}, False),
    "gemm, weight the other way": ("Gemm", [4, 6], {"w": (6, 5), "b": (5,)}, {}, False),
    "gemm without bias": ("Gemm", [4, 6], {"w": (6, 5)}, {}, False),
    "matmul": ("MatMul", [4, 6], {"w": (6, 5)}, {}, False),
    "matmul of rows": ("MatMul", [2, 7, 6], {"w": (6, 5), "b": (5,)}, {}, True),
    "matmul of an image": ("MatMul", [2, 3, 4, 6], {"w": (6, 5), "b": (5,)}, {}, True),
}


@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_a_linear_layer_is_a_pointwise_convolution_over_its_rows(name):
    operator, given_, shapes, attributes, adding = LINEAR_LAYERS[name]
    model = one_layer(operator, given_, shapes, attributes, np.random.default_rng(1), adding=adding)
    site = the_site(model)
    assert (site.layer, site.output, site.geometry.weight_shape[:2]) == (LINEAR, "y", (5, 6))
    assert site.bias == ("b" if "b" in shapes else None)
    x = np.random.default_rng(0).normal(size=given_).astype(np.float32)
    kernel = read_kernel(model, site).reshape(5, 6)
    bias = next(
        (t.numpy() for n, t in ((v.name, v.const_value) for v in model.ir.graph.initializers.values()) if n == "b"), 0
    )
    expected = np.einsum("mc,nc...->nm...", kernel, site.seen(x)) + np.reshape(
        bias, (-1, *[1] * (site.seen(x).ndim - 2))
    )
    found = run_model(model_bytes(model), {"x": x})["z"]
    np.testing.assert_allclose(site.made(found), np.abs(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("through", "found"), [("FLOAT", "b"), ("DOUBLE", None)])
def test_a_bias_behind_casts_is_the_layer_s_where_they_change_nothing(through, found):
    operator, given_, shapes, attributes, _ = LINEAR_LAYERS["matmul of rows"]
    rng = np.random.default_rng(1)
    model = one_layer(operator, given_, shapes, attributes, rng, adding=True)
    product, adding, _ = model.ir.graph
    value = product.outputs[0]
    for kind in (through, "FLOAT"):
        cast = ir.node("Cast", [value], {"to": int(ir.DataType[kind])}, name=f"cast to {kind}")
        cast.outputs[0].name = f"{value.name}_as_{kind}"
        model.ir.graph.insert_before(adding, cast)
        value = cast.outputs[0]
    adding.replace_input_with(0, value)
    site = the_site(model)
    assert site.bias == found
    replacement = Replacement(
        site, draw("conv_pw", site.geometry, 2, rng), "stacked", np.arange(5.0) if found else None
    )
    rewritten = rewrite_model(model, [replacement])
    assert check_rewrite(model, rewritten, [replacement], rng).sites == 1
    assert any(node.op_type == "Cast" for node in rewritten.model.ir.graph) == (found is None)


def test_what_multiplies_no_constant_matrix_from_the_right_is_no_linear_layer():
    model = one_layer("MatMul", [4, 6], {"w": (6, 5)}, {}, np.random.default_rng(1))
    (node, *_) = model.ir.graph
    x, w = node.inputs
    node.replace_input_with(0, w)
    node.replace_input_with(1, x)
    found = survey(model, infer_shapes(model))
    assert [skip.kind for skip in found.skips] == ["left-matrix"]


def test_the_layers_of_a_group_do_not_mix_channels_of_another():
    model = one_layer("Conv", *GROUPS, np.random.default_rng(0))
    site = the_site(model)
    assert site.layer == GROUPED
    for form, lowering in WAYS:
        if applies(form, site.geometry) and lowering in lowerings(form, 2, 3):
            factors = draw(form, site.geometry, 2, np.random.default_rng(1))
            chain = rewrite_model(model, [Replacement(site, factors, lowering)]).model
            groups = [node.attributes.get_int("group", 1) for node in chain.ir.graph if node.op_type == "Conv"]
            assert min(groups) >= 3
