from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from sepconvert.errors import VerificationError
from sepconvert.graph.rewrite import rewrite_model
from sepconvert.record import SelfCheck
from sepconvert.separable.forms import lowerings
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.verify.oracle import check_rewrite
from sepconvert.workflows import Measure, rewrite
from tests.graph.site_models import (
    IR_VERSIONS,
    NEWEST,
    WAYS,
    conv_proto,
    loaded,
    random_replacement,
    site_geometries,
    site_of,
)
from tests.separable.strategies import seeds

OPSETS = sorted(IR_VERSIONS)
# 2-D, everything different along the two axes, and a pad that no symmetric one replaces.
CROOKED = ConvGeometry(5, 6, (3, 4), (2, 1), (1, 2), (0, 2, 1, 3))


def rewritten_and_checked(
    geometry: ConvGeometry, way: tuple[str, int, str], rng: np.random.Generator, *, new_bias: bool = False, **proto: Any
) -> SelfCheck:
    """What the oracle says of one site rewritten to (form, rank, lowering) in ``conv_proto(geometry, **proto)``."""
    model = loaded(conv_proto(geometry, rng, **proto))
    bias = rng.standard_normal(geometry.out_channels) if new_bias else None
    kept = {name: value for name, value in proto.items() if name != "opset"}
    replacements = [random_replacement(site_of(geometry, **kept), *way, rng, bias)]
    return check_rewrite(model, rewrite_model(model, replacements), replacements, rng)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("form", "lowering"), WAYS)
@settings(deadline=None, max_examples=12)
@given(geometry=site_geometries(), rank=st.integers(1, 4), bias=st.booleans(), new_bias=st.booleans(), seed=seeds)
def test_every_chain_computes_what_its_factors_say(form, lowering, opset, geometry, rank, bias, new_bias, seed):
    assume(lowering in lowerings(form, rank))
    rng, way = np.random.default_rng(seed), (form, rank, lowering)
    assert rewritten_and_checked(geometry, way, rng, new_bias=new_bias, bias=bias, opset=opset).sites == 1


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize(("form", "lowering"), WAYS)
@settings(deadline=None, max_examples=8)
@given(geometry=site_geometries(), rank=st.integers(1, 4), opset=st.sampled_from(OPSETS), seed=seeds)
def test_every_chain_holds_in_every_weight_type(form, lowering, dtype, geometry, rank, opset, seed):
    assume(lowering in lowerings(form, rank))
    opset = NEWEST if dtype == "bfloat16" else opset
    rng, way = np.random.default_rng(seed), (form, rank, lowering)
    assert rewritten_and_checked(geometry, way, rng, dtype=dtype, opset=opset).sites == 1


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("form", "lowering"), WAYS)
def test_a_rewrite_is_checked_in_the_graph_it_was_written_into(form, lowering, opset):
    check = rewritten_and_checked(CROOKED, (form, 3, lowering), np.random.default_rng(3), opset=opset)
    assert check.max_relative <= check.tolerance


def test_the_bound_is_close_enough_to_see_a_relative_error_of_a_thousandth():
    geometry = ConvGeometry(512, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    check = rewritten_and_checked(geometry, ("dw_pw", 2, "concat"), np.random.default_rng(0), bias=False)
    # A sum of n random products is about 1/√n of the sum of their magnitudes.
    assert check.tolerance < 1e-1 / np.sqrt(512 * 9)


def test_large_weights_of_float16_do_not_overflow_in_the_check(tmp_path):
    proto = conv_proto(CROOKED, np.random.default_rng(0), dtype="float16", bias=False, opset=18)
    (weight,) = proto.graph.initializer
    large = numpy_helper.to_array(weight).copy()
    large[0, :2, 0, 0] = 59040, 31680
    weight.CopyFrom(numpy_helper.from_array(large, weight.name))
    onnx.save(proto, tmp_path / "m.onnx")
    found = rewrite(tmp_path / "m.onnx", rank=0.5, form="dw-pw", measure=Measure(latency=False))
    assert [site.status for site in found.record.sites] == ["rewritten"]


Mutation = Callable[[list[ir.Node], ir.Graph], None]


def set_attribute(name: str, values: list[int]) -> Mutation:
    """Overwrite an attribute of the first Conv with more than one tap."""

    def mutate(nodes: list[ir.Node], graph: ir.Graph) -> None:
        node = next(n for n in nodes if n.op_type == "Conv" and max(n.attributes["kernel_shape"].as_ints()) > 1)
        node.attributes[name] = ir.AttrInt64s(name, values)

    return mutate


def double_bias(nodes: list[ir.Node], graph: ir.Graph) -> None:
    convs = [node for node in nodes if node.op_type == "Conv"]
    (carrier,) = [node for node in convs if len(node.inputs) == 3]
    twin = next(node for node in convs if len(node.inputs) == 2 and node.inputs[1].shape == carrier.inputs[1].shape)
    twin.resize_inputs(3)
    twin.replace_input_with(2, carrier.inputs[2])


def scale_bias(factor: float) -> Mutation:
    def mutate(nodes: list[ir.Node], graph: ir.Graph) -> None:
        carrier = next(node for node in nodes if len(node.inputs) == 3)
        bias = carrier.inputs[2]
        bias.const_value = ir.tensor((bias.const_value.numpy() * factor).astype(bias.dtype.numpy()), name=bias.name)

    return mutate


def drop_bias(nodes: list[ir.Node], graph: ir.Graph) -> None:
    next(node for node in nodes if len(node.inputs) == 3).resize_inputs(2)


def change_weight(index: int, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    def mutate(nodes: list[ir.Node], graph: ir.Graph) -> None:
        weight = [node for node in nodes if node.op_type == "Conv"][index].inputs[1]
        weight.const_value = ir.tensor(np.ascontiguousarray(change(weight.const_value.numpy())), name=weight.name)

    return mutate


def swap_concat(nodes: list[ir.Node], graph: ir.Graph) -> None:
    (concat,) = [node for node in nodes if node.op_type == "Concat"]
    first, second = concat.inputs
    concat.replace_input_with(0, second)
    concat.replace_input_with(1, first)


def add_twice(nodes: list[ir.Node], graph: ir.Graph) -> None:
    last = nodes[-1]
    assert last.op_type == "Add"
    last.replace_input_with(1, last.inputs[0])


def bias_before_the_taps(nodes: list[ir.Node], graph: ir.Graph) -> None:
    carrier = next(node for node in nodes if len(node.inputs) == 3)
    bias = carrier.inputs[2]
    carrier.resize_inputs(2)
    nodes[0].resize_inputs(3)
    nodes[0].replace_input_with(2, bias)


DEFECTS = {
    "stride dropped": ("dw_pw", "stacked", set_attribute("strides", [1, 1])),
    "stride on the other axis": ("pw_dw", "stacked", set_attribute("strides", [1, 2])),
    "dilation dropped, pads shrunk to match": ("dw_pw", "stacked", None),
    "pads symmetrised": ("dw_pw", "branches", None),
    "pads mirrored": ("pw_dw_pw", "stacked", set_attribute("pads", [1, 3, 0, 2])),
    "pads on the other axis of a spatial factor": ("spatial", "stacked", None),
    "auto_pad at the other end": ("dw_pw", "concat", None),
    "bias on both branches": ("dw_pw", "branches", double_bias),
    "bias on both branches behind the taps": ("pw_dw", "branches", double_bias),
    "bias scaled": ("pw_dw_pw", "stacked", scale_bias(2.0)),
    "bias off by a hundredth": ("dw_pw", "concat", scale_bias(1.01)),
    "bias dropped": ("spatial", "stacked", drop_bias),
    "taps flipped": ("dw_pw", "concat", change_weight(0, lambda w: w[:, :, ::-1])),
    "two channels swapped": ("pw_dw_pw", "stacked", change_weight(0, lambda w: w[:, [1, 0, 2, 3, 4]])),
    "one weight off by a hundredth": (
        "pw_dw",
        "stacked",
        change_weight(1, lambda w: w * (1 + 0.01 * (w == w[0, 0, 0, 0]))),
    ),
    "branches joined in the wrong order": ("dw_pw", "concat", swap_concat),
    "one branch added twice": ("pw_dw", "branches", add_twice),
    "bias before padded taps": ("pw_dw", "stacked", bias_before_the_taps),
}


def with_defect(name: str, dtype: str = "float32"):
    rng = np.random.default_rng(11)
    form, lowering, mutation = DEFECTS[name]
    geometry = CROOKED
    if mutation is None:
        geometry, mutation = SPECIAL[name]
    rank = 1 if name == "bias before padded taps" else 2
    site = site_of(geometry, dtype=dtype)
    model = loaded(conv_proto(geometry, rng, dtype=dtype, opset=NEWEST if dtype == "bfloat16" else 18))
    replacements = [random_replacement(site, form, rank, lowering, rng)]
    rewritten = rewrite_model(model, replacements)
    check_rewrite(model, rewritten, replacements, np.random.default_rng(0))
    nodes = [node for node in rewritten.model.ir.graph if node.op_type != "Abs"]
    mutation(nodes, rewritten.model.ir.graph)
    return model, rewritten, replacements


def spatial_pads_on_the_wrong_axis(nodes: list[ir.Node], graph: ir.Graph) -> None:
    first, second = nodes
    first.attributes["pads"], second.attributes["pads"] = second.attributes["pads"], first.attributes["pads"]


def auto_pad_at_the_other_end(nodes: list[ir.Node], graph: ir.Graph) -> None:
    for node in nodes:
        if "auto_pad" in node.attributes:
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "SAME_LOWER")


# Geometries at which the defect leaves the output's size as it is: only the values can tell.
SPECIAL: dict[str, tuple[ConvGeometry, Mutation]] = {
    "dilation dropped, pads shrunk to match": (
        ConvGeometry(5, 6, (3, 3), (1, 1), (2, 2), (2, 2, 2, 2)),
        lambda nodes, graph: [
            set_attribute("dilations", [1, 1])(nodes, graph),
            set_attribute("pads", [1, 1, 1, 1])(nodes, graph),
        ],
    ),
    "pads symmetrised": (
        ConvGeometry(5, 6, (3, 3), (2, 2), (1, 1), (0, 0, 2, 2)),
        set_attribute("pads", [1, 1, 1, 1]),
    ),
    "pads on the other axis of a spatial factor": (
        ConvGeometry(5, 6, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        spatial_pads_on_the_wrong_axis,
    ),
    "auto_pad at the other end": (
        ConvGeometry(5, 6, (3, 3), (2, 2), (1, 1), (0, 0, 0, 0), "SAME_UPPER"),
        auto_pad_at_the_other_end,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_the_oracle_sees_every_defect_in_every_type(name, dtype):
    model, rewritten, replacements = with_defect(name, dtype)
    with pytest.raises(VerificationError, match=r"Site 'y': the nodes written for .* differ from"):
        check_rewrite(model, rewritten, replacements, np.random.default_rng(0))
