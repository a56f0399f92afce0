from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sepconvert.errors import ModelError
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.verify.oracle import check_rewrite
from tests.graph.site_models import IR_VERSIONS, WAYS, conv_node, conv_proto, loaded, random_replacement, site_of

GEOMETRY = ConvGeometry(5, 6, (3, 4), (2, 1), (1, 2), (0, 2, 1, 3))
FLOAT = onnx.TensorProto.FLOAT


def rng():
    return np.random.default_rng(5)


def rewritten(proto, *, form="dw_pw", rank=2, lowering="branches", bias=None, site=None):
    """Rewrite the site of a model, check it with onnx and the oracle, and return the new proto."""
    model = loaded(proto)
    replacements = [random_replacement(site or site_of(GEOMETRY), form, rank, lowering, rng(), bias)]
    result = rewrite_model(model, replacements)
    check_rewrite(model, result, replacements, rng())
    written = ir.to_proto(result.model.ir)
    onnx.checker.check_model(written, full_check=True)
    return written


def nodes(proto):
    return [node.op_type for node in proto.graph.node]


def names(values):
    return [value.name for value in values]


@pytest.mark.parametrize("opset", sorted(IR_VERSIONS))
@pytest.mark.parametrize(("form", "lowering"), WAYS)
def test_the_given_model_is_never_changed(form, lowering, opset):
    model = loaded(conv_proto(GEOMETRY, rng(), opset=opset))
    before = ir.to_proto(model.ir).SerializeToString()
    bias = np.ones(GEOMETRY.out_channels)
    rewrite_model(model, [random_replacement(site_of(GEOMETRY), form, 2, lowering, rng(), bias)])
    assert ir.to_proto(model.ir).SerializeToString() == before


@pytest.mark.parametrize("opset", sorted(IR_VERSIONS))
@pytest.mark.parametrize(("form", "lowering"), WAYS)
def test_what_is_written_passes_the_full_check_at_every_opset(form, lowering, opset):
    written = rewritten(conv_proto(GEOMETRY, rng(), opset=opset), form=form, lowering=lowering)
    assert written.opset_import[0].version == opset
    assert written.ir_version == IR_VERSIONS[opset]


def test_everything_around_the_site_stays_as_it_was():
    proto = conv_proto(GEOMETRY, rng())
    proto.graph.doc_string, proto.doc_string, proto.domain, proto.model_version = "graph", "model", "tests", 7
    helper.set_model_props(proto, {"key": "value"})
    helper.set_model_props(proto.graph, {"inner": "value"})
    proto.graph.node[0].metadata_props.add(key="from", value="layer1")
    proto.graph.node[1].doc_string = "absolute"
    before = ir.to_proto(ir.from_proto(proto))
    written = rewritten(proto)
    for field in ("producer_name", "domain", "model_version", "doc_string", "metadata_props", "opset_import"):
        assert getattr(written, field) == getattr(before, field), field
    for field in ("name", "input", "output", "doc_string", "metadata_props"):
        assert getattr(written.graph, field) == getattr(before.graph, field), field
    assert written.graph.node[-1] == before.graph.node[-1]
    assert names(written.graph.input) == ["x"]
    props = [{p.key: p.value for p in node.metadata_props} for node in written.graph.node[:-1]]
    assert [found["from"] for found in props] == ["layer1"] * len(props)


def test_the_last_node_of_the_chain_makes_the_output_of_the_site():
    written = rewritten(conv_proto(GEOMETRY, rng()))
    assert nodes(written) == ["Conv", "Conv", "Conv", "Conv", "Add", "Abs"]
    assert written.graph.node[-2].output[0] == "y"


def test_emitted_names_the_outputs_of_the_convolutions():
    model = loaded(conv_proto(GEOMETRY, rng()))
    result = rewrite_model(model, [random_replacement(site_of(GEOMETRY), "dw_pw", 2, "stacked", rng())])
    convs = [node.outputs[0].name for node in result.model.ir.graph if node.op_type == "Conv"]
    assert dict(result.emitted) == {"y": tuple(convs)}
    assert convs[-1] == "y"


def test_the_old_weight_goes_and_the_old_bias_stays():
    written = rewritten(conv_proto(GEOMETRY, rng()))
    assert "w" not in names(written.graph.initializer)
    assert "b" in names(written.graph.initializer)


def test_a_new_bias_replaces_the_old_one_also_where_there_was_none():
    bias = np.arange(GEOMETRY.out_channels)
    written = rewritten(conv_proto(GEOMETRY, rng()), bias=bias)
    assert not {"w", "b"} & set(names(written.graph.initializer))
    site = site_of(GEOMETRY, bias=False)
    written = rewritten(conv_proto(GEOMETRY, rng(), bias=False), bias=bias, site=site)
    held = [numpy_helper.to_array(t) for t in written.graph.initializer if len(t.dims) == 1]
    np.testing.assert_array_equal(held, [bias])


def test_a_weight_that_something_else_uses_stays():
    proto = conv_proto(GEOMETRY, rng())
    proto.graph.node.append(helper.make_node("ReduceSum", ["w"], ["sum"]))
    proto.graph.output.append(helper.make_tensor_value_info("sum", FLOAT, [1, 1, 1, 1]))
    assert "w" in names(rewritten(proto).graph.initializer)


def test_a_weight_that_is_a_graph_output_stays():
    proto = conv_proto(GEOMETRY, rng())
    proto.graph.output.append(helper.make_tensor_value_info("w", FLOAT, GEOMETRY.weight_shape))
    assert "w" in names(rewritten(proto).graph.initializer)


def test_constant_nodes_that_only_made_the_weight_go_with_it():
    proto = conv_proto(GEOMETRY, rng())
    shape = numpy_helper.from_array(np.array(GEOMETRY.weight_shape), "shape")
    weight, bias = proto.graph.initializer
    del proto.graph.initializer[:]
    proto.graph.initializer.append(shape)
    made = [
        helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
        helper.make_node("Constant", [], ["w0"], value=weight),
        helper.make_node("Add", ["filled", "w0"], ["w"]),
        helper.make_node("Constant", [], ["b"], value=bias),
    ]
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*made, *rest])
    written = rewritten(proto)
    assert nodes(written) == ["Constant", "Conv", "Conv", "Conv", "Conv", "Add", "Abs"]
    assert "shape" not in names(written.graph.initializer)


def test_a_bias_computed_at_run_time_is_kept_as_it_is():
    proto = conv_proto(GEOMETRY, rng())
    del proto.graph.initializer[1]
    proto.graph.input.append(helper.make_tensor_value_info("given", FLOAT, [6]))
    proto.graph.node.insert(0, helper.make_node("Neg", ["given"], ["b"]))
    written = rewritten(proto)
    assert nodes(written)[0] == "Neg"
    assert [node.input[2] for node in written.graph.node if len(node.input) == 3] == ["b"]


def test_before_ir_version_4_the_inputs_lose_the_old_weight_and_gain_nothing():
    written = rewritten(conv_proto(GEOMETRY, rng(), opset=7), bias=None)
    assert names(written.graph.input) == ["x", "b"]
    assert names(written.graph.initializer) == ["b"]
    assert nodes(written).count("Constant") == 4


def test_an_overridable_bias_stays_an_input_when_it_is_replaced():
    proto = conv_proto(GEOMETRY, rng())
    proto.graph.input.append(helper.make_tensor_value_info("b", FLOAT, [6]))
    written = rewritten(proto, bias=np.ones(6))
    assert names(written.graph.input) == ["x", "b"]


@pytest.mark.parametrize("name", ["", "conv"])
def test_empty_and_repeated_node_names_do_no_harm(name):
    proto = conv_proto(GEOMETRY, rng())
    for node in proto.graph.node:
        node.name = name
    written = rewritten(proto)
    fresh = [node.name for node in written.graph.node if node.op_type != "Abs"]
    assert len(set(fresh)) == len(fresh)
    assert written.graph.node[-1].name == name


def test_new_names_avoid_every_name_of_the_graph_its_subgraphs_and_its_own_second_run():
    first = rewritten(conv_proto(GEOMETRY, rng()))
    taken = {node.name for node in first.graph.node} | {o for n in first.graph.node for o in n.output}
    taken = sorted((taken | set(names(first.graph.initializer))) - {"x", "w", "b", "y", "z", "abs"})
    proto = conv_proto(GEOMETRY, rng())
    # Half of the names in the graph, half of them in a subgraph.
    outside, inside = taken[::2], taken[1::2]
    for name in outside:
        proto.graph.node.append(helper.make_node("Neg", ["x"], [name], name=name))
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], [name], name=name) for name in inside],
        "branch",
        [],
        [helper.make_tensor_value_info(inside[0], FLOAT, None)],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    proto.graph.node.append(helper.make_node("If", ["flag"], ["if"], then_branch=branch, else_branch=branch))
    written = rewritten(proto)
    new = {node.name for node in written.graph.node[:5]} | {o for n in written.graph.node[:5] for o in n.output}
    assert not (new - {"y"}) & set(taken)


def test_a_site_read_by_a_subgraph_and_by_many_nodes_keeps_all_its_readers():
    proto = conv_proto(GEOMETRY, rng())
    branch = helper.make_graph(
        [helper.make_node("Neg", ["y"], ["negated"])],
        "branch",
        [],
        [helper.make_tensor_value_info("negated", FLOAT, None)],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    proto.graph.node.append(helper.make_node("If", ["flag"], ["if"], then_branch=branch, else_branch=branch))
    proto.graph.node.append(helper.make_node("Add", ["y", "if"], ["zero"]))
    proto.graph.output.append(helper.make_tensor_value_info("zero", FLOAT, list("abcd")))
    written = rewritten(proto)
    assert [node.input[0] for node in written.graph.node if node.op_type in ("Abs", "Add")][-2:] == ["y", "y"]
    assert written.graph.node[-2].attribute[0].g.node[0].input[0] == "y"


def test_two_sites_in_a_row_are_replaced_in_one_go_and_a_repeated_one_is_refused():
    geometry = ConvGeometry(4, 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    proto = conv_proto(geometry, rng(), bias=False)
    second = conv_node(geometry, bias=False)
    second.input[0], second.output[0], second.name = "y", "y2", "conv"
    second.input[1] = "w2"
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(geometry.weight_shape, np.float32), "w2"))
    proto.graph.node.append(second)
    proto.graph.output.append(helper.make_tensor_value_info("y2", FLOAT, list("abcd")))
    model = loaded(proto)
    one = site_of(geometry, bias=False)
    two = type(one)("y2", "conv", "y", "w2", None, "float32", geometry)
    replacements = [random_replacement(site, "pw_dw", 2, "branches", rng()) for site in (two, one)]
    result = rewrite_model(model, replacements)
    onnx.checker.check_model(ir.to_proto(result.model.ir), full_check=True)
    assert check_rewrite(model, result, replacements, rng()).sites == 2
    with pytest.raises(ModelError, match="no layer left with output 'y'"):
        rewrite_model(model, [replacements[1], replacements[1]])


def test_factors_that_overflow_the_weight_type_are_refused():
    drawn = random_replacement(site_of(GEOMETRY), "dw_pw", 2, "stacked", rng()).factors
    huge = type(drawn)("dw_pw", 2, (3, 4), {name: array * 1e6 for name, array in drawn.arrays.items()})
    with pytest.raises(ModelError, match="do not fit into float16"):
        Replacement(site_of(GEOMETRY, dtype="float16"), huge, "stacked")


def test_a_bias_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="does not fit site y"):
        rewritten(conv_proto(GEOMETRY, rng()), bias=np.ones(5))


def test_external_weights_are_shared_not_read(tmp_path: Path):
    proto = conv_proto(GEOMETRY, rng())
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = loaded(conv_proto(GEOMETRY, rng()))
    model = type(model)(ir.load(tmp_path / "m.onnx"), tmp_path / "m.onnx", None, None)
    result = rewrite_model(model, [random_replacement(site_of(GEOMETRY), "dw_pw", 2, "concat", rng())])
    bias = result.model.ir.graph.initializers["b"].const_value
    assert isinstance(bias, ir.ExternalTensor)
    assert bias is model.ir.graph.initializers["b"].const_value


def test_the_long_spelling_of_the_standard_domain_is_understood():
    proto = conv_proto(GEOMETRY, rng())
    proto.opset_import[0].domain = "ai.onnx"
    assert rewritten(proto).opset_import[0].domain == "ai.onnx"
