import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sepconvert.graph.lower import fresh_names, lower
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import FORMS, applies, cost_of, lowerings
from sepconvert.separable.geometry import ConvGeometry
from tests.graph.site_models import WAYS, site_geometries, site_of
from tests.separable.strategies import seeds

# C=5, M=6, 3×4 taps: no two numbers alike, so that no mix-up can hide.
CROOKED = ConvGeometry(5, 6, (3, 4), (2, 1), (1, 2), (0, 2, 1, 3))


def chain_of(form, rank, lowering, geometry=CROOKED, *, bias=True, dtype="float32"):
    site = site_of(geometry, bias=bias, dtype=dtype)
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    held = ir.Value(name="b") if bias else None
    factors = FORMS[form].draw(geometry, rank, np.random.default_rng(0)).astype(np.dtype(dtype))
    return lower(site, factors, lowering, source, held, fresh_names([]))


def summary(chain):
    """Per node: operator, weight shape and group."""
    lines = []
    for node in chain.nodes:
        if node.op_type == "Conv":
            lines.append((tuple(node.inputs[1].shape), node.attributes["group"].as_int()))
        else:
            lines.append(node.op_type)
    return lines


def biases(chain):
    return [len(node.inputs) == 3 for node in chain.products]


def taps(node):
    names = ("kernel_shape", "strides", "dilations", "pads")
    return tuple(tuple(node.attributes[name].as_ints()) for name in names)


PLAIN = ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
HELD = ((3, 4), (2, 1), (1, 2), (0, 2, 1, 3))
DW, PW = ((5, 1, 3, 4), 5), ((6, 5, 1, 1), 1)


@pytest.mark.parametrize(
    ("form", "lowering", "nodes", "attributes", "bias"),
    [
        ("dw_pw", "stacked", [((10, 1, 3, 4), 5), ((6, 10, 1, 1), 1)], [HELD, PLAIN], [False, True]),
        ("dw_pw", "branches", [DW, PW, DW, PW, "Add"], [HELD, PLAIN] * 2, [False, True, False, False]),
        ("dw_pw", "concat", [DW, DW, "Concat", ((6, 10, 1, 1), 1)], [HELD, HELD, PLAIN], [False, False, True]),
        ("pw_dw", "stacked", [((12, 5, 1, 1), 1), ((6, 2, 3, 4), 6)], [PLAIN, HELD], [False, True]),
        ("pw_dw", "branches", [PW, ((6, 1, 3, 4), 6)] * 2 + ["Add"], [PLAIN, HELD] * 2, [False, True, False, False]),
        (
            "pw_dw_pw",
            "stacked",
            [((2, 5, 1, 1), 1), ((2, 1, 3, 4), 2), ((6, 2, 1, 1), 1)],
            [PLAIN, HELD, PLAIN],
            [False, False, True],
        ),
        (
            "spatial",
            "stacked",
            [((2, 5, 1, 4), 1), ((6, 2, 3, 1), 1)],
            [((1, 4), (1, 1), (1, 2), (0, 2, 0, 3)), ((3, 1), (2, 1), (1, 1), (0, 0, 1, 0))],
            [False, True],
        ),
        ("conv_pw", "stacked", [((2, 5, 3, 4), 1), ((6, 2, 1, 1), 1)], [HELD, PLAIN], [False, True]),
        (
            "pw_conv_pw",
            "stacked",
            [((1, 5, 1, 1), 1), ((2, 1, 3, 4), 1), ((6, 2, 1, 1), 1)],
            [PLAIN, HELD, PLAIN],
            [False, False, True],
        ),
    ],
)
def test_each_lowering_writes_these_nodes(form, lowering, nodes, attributes, bias):
    chain = chain_of(form, 2, lowering)
    assert summary(chain) == nodes
    assert [taps(node) for node in chain.products] == attributes
    assert biases(chain) == bias
    assert len({value.name for value in chain.weights}) == len(chain.products)


def test_each_axis_of_a_spatial_factor_keeps_its_attributes_when_rows_run_first():
    arrays = {"first": np.ones((2, 5, 3, 1), np.float32), "second": np.ones((6, 2, 1, 4), np.float32)}
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    chain = lower(site_of(CROOKED), Factors("spatial", 2, (3, 4), arrays), "stacked", source, None, fresh_names([]))
    assert [taps(node) for node in chain.nodes] == [
        ((3, 1), (2, 1), (1, 1), (0, 0, 1, 0)),
        ((1, 4), (1, 1), (1, 2), (0, 2, 0, 3)),
    ]


def test_a_spatial_axis_of_one_tap_keeps_its_stride_with_the_factor_that_was_counted_for_it():
    geometry = ConvGeometry(5, 6, (3, 1), (1, 2), (1, 1), (1, 0, 1, 0)).at((9, 9))
    chain = chain_of("spatial", 2, "stacked", geometry)
    sizes, spatial = (9, 9), []
    for node in chain.nodes:
        kernel, stride, _, pads = taps(node)
        sizes = tuple((sizes[a] + pads[a] + pads[a + 2] - kernel[a]) // stride[a] + 1 for a in (0, 1))
        spatial.append(np.prod(node.inputs[1].shape) * np.prod(sizes))
    assert sum(spatial) == cost_of("spatial", geometry, 2).macs


@pytest.mark.parametrize(("form", "lowering"), WAYS)
@settings(deadline=None, max_examples=15)
@given(geometry=site_geometries(), rank=st.integers(1, 4), size=st.integers(14, 20))
def test_the_nodes_cost_what_the_form_counts(form, lowering, geometry, rank, size):
    assume(lowering in lowerings(form, rank) and applies(form, geometry))
    geometry = geometry.at((size,) * len(geometry.kernel))
    chain = chain_of(form, rank, lowering, geometry)
    sizes = {"x": geometry.in_spatial}
    macs = 0
    for node in chain.nodes:
        inside = sizes[node.inputs[0].name]
        if node.op_type == "Conv":
            inside = at_output(node, inside)
            macs += int(np.prod(node.inputs[1].shape)) * int(np.prod(inside))
        sizes[node.outputs[0].name] = inside
    cost = cost_of(form, geometry, rank)
    assert sizes[chain.output.name] == geometry.out_spatial
    assert (sum(int(np.prod(w.shape)) for w in chain.weights), macs) == (cost.params, cost.macs)


def at_output(node, size):
    """Output size of a Conv node by its own attributes."""
    kernel, stride, dilation = (
        tuple(node.attributes[name].as_ints()) for name in ("kernel_shape", "strides", "dilations")
    )
    weight = node.inputs[1].shape
    auto_pad = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    pads = tuple(node.attributes["pads"].as_ints()) if "pads" in node.attributes else (0,) * (2 * len(kernel))
    return ConvGeometry(weight[1], weight[0], kernel, stride, dilation, pads, auto_pad).at(size).out_spatial


@pytest.mark.parametrize(("form", "lowering"), WAYS)
def test_auto_pad_is_kept_instead_of_explicit_pads_and_only_where_taps_are(form, lowering):
    geometry = ConvGeometry(5, 6, (3, 4), (2, 1), (1, 1), (0, 0, 0, 0), "SAME_LOWER")
    for node in chain_of(form, 3, lowering, geometry).products:
        pointwise = set(node.attributes["kernel_shape"].as_ints()) == {1}
        assert ("auto_pad" in node.attributes) == (not pointwise)
        assert ("pads" in node.attributes) == pointwise


@pytest.mark.parametrize(("form", "lowering"), WAYS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_keep_the_type_of_the_factors(form, lowering, dtype):
    chain = chain_of(form, 2, lowering, dtype=dtype)
    assert {value.dtype for value in chain.weights} == {ir.DataType.from_numpy(np.dtype(dtype))}


@settings(deadline=None, max_examples=20)
@given(rank=st.integers(2, 9), seed=seeds)
def test_sums_are_added_two_by_two_and_only_one_branch_has_the_bias(rank, seed):
    for form in ("dw_pw", "pw_dw"):
        chain = chain_of(form, rank, "branches")
        adds = [node for node in chain.nodes if node.op_type == "Add"]
        assert len(adds) == rank - 1
        assert all(len(node.inputs) == 2 for node in adds)
        assert biases(chain).count(True) == 1


def test_lowerings_that_would_coincide_are_listed_once():
    assert [lowerings(form, 1) for form in sorted(FORMS)] == [("stacked",)] * len(FORMS)
    assert set(lowerings("dw_pw", 2)) == {"stacked", "branches", "concat"}
    assert set(lowerings("pw_dw", 2)) == {"stacked", "branches"}
    assert lowerings("pw_dw_pw", 2) == lowerings("spatial", 2) == ("stacked",)


def test_a_lowering_that_does_not_apply_is_refused():
    with pytest.raises(ValueError, match="concat does not apply to pw_dw"):
        chain_of("pw_dw", 2, "concat")


def test_factors_of_another_kernel_are_refused():
    factors = FORMS["dw_pw"].draw(CROOKED, 2, np.random.default_rng(0))
    site = site_of(ConvGeometry(5, 6, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0)))
    with pytest.raises(ValueError, match="do not fit site y"):
        lower(site, factors, "stacked", ir.Value(name="x"), None, fresh_names([]))
