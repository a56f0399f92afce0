"""Layers that share a weight: one site where one set of factors can stand for it, else skipped with a reason."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sepconvert.graph.count import count_totals
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, LAYERS
from sepconvert.graph.survey import Survey, survey
from sepconvert.record import Skip
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import FORMS, cost_of, draw, named, reconstruct
from sepconvert.verify.oracle import check_rewrite
from tests.graph.models import load, model, weight

INPUT = {"x": (1, 4, 9, 9)}


def conv(seen: str, made: str, held: str = "w", bias: tuple[str, ...] = (), **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [seen, held, *bias], [made], name=f"make_{made}", **attributes)


def surveyed(proto: onnx.ModelProto) -> tuple[LoadedModel, Survey]:
    loaded = load(proto)
    return loaded, survey(loaded, infer_shapes(loaded)).allowing(named("any"), LAYERS)


def reasons(found: Survey) -> set[str]:
    assert found.sites == ()
    assert [skip.kind for skip in found.skips] == ["shared-weight"] * 2
    return {skip.reason for skip in found.skips}


def strided() -> onnx.ModelProto:
    """Three uses of one weight and bias: as it is, strided, and dilated with other pads, one of them after another."""
    nodes = [
        conv("x", "a", bias=("b",), pads=[1] * 4),
        conv("x", "c", bias=("b",), strides=[2, 3], pads=[0, 1, 1, 0]),
        conv("a", "d", bias=("b",), dilations=[2, 1], pads=[0, 1, 2, 1]),
    ]
    return model(nodes, INPUT, ["c", "d"], {"w": weight((4, 4, 3, 3)), "b": weight((4,))})


def test_layers_of_one_weight_are_one_site_with_the_weights_once_and_the_macs_of_all():
    _, found = surveyed(strided())
    (site,) = found.sites
    assert site.outputs == ("a", "c", "d")
    assert [use.geometry.stride for use in site.uses] == [(1, 1), (2, 3), (1, 1)]
    positions = 9 * 9 + 4 * 3 + 7 * 9
    assert (site.geometry.dense_cost.params, site.geometry.dense_cost.macs) == (144, 144 * positions)
    # pw-dw at rank 1: the pointwise layer runs at what it reads, the depthwise one at what it makes.
    cost = cost_of("pw_dw", site.geometry, 1)
    assert (cost.params, cost.macs) == (16 + 36, 16 * (81 + 81 + 81) + 36 * positions)


def test_only_any_form_looks_at_shared_weights():
    loaded, _ = surveyed(strided())
    found = survey(loaded, infer_shapes(loaded)).allowing(named("auto"), [CONV])
    assert [skip.output for skip in found.skips] == ["a", "c", "d"]
    assert all("--form any" in reason for reason in {skip.reason for skip in found.skips})


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("biased", [True, False])
def test_the_oracle_passes_every_use_and_what_is_written_is_there_once(form, biased, ir_version):
    proto = strided()
    proto.ir_version = ir_version
    if ir_version < 4:
        proto.opset_import[0].version = 8
        for tensor in proto.graph.initializer:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    loaded, found = surveyed(proto)
    (site,) = found.sites
    rng = np.random.default_rng(0)
    factors = draw(form, site.geometry, 2, rng)
    replacement = Replacement(site, factors, "stacked", rng.normal(size=4) if biased else None)
    rewritten = rewrite_model(loaded, [replacement])
    assert check_rewrite(loaded, rewritten, [replacement], rng).sites == 1
    shapes = infer_shapes(rewritten.model)
    totals = count_totals(rewritten.model, shapes, [name for names in rewritten.emitted.values() for name in names])
    assert totals.params == cost_of(form, site.geometry, 2).params + 4
    assert totals.macs == totals.site_macs == cost_of(form, site.geometry, 2).macs


def test_the_rewritten_model_computes_what_dense_kernels_would():
    loaded, found = surveyed(strided())
    (site,) = found.sites
    rng = np.random.default_rng(0)
    factors = draw("dw_pw", site.geometry, 1, rng)
    dense = strided()
    dense.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(reconstruct(factors).astype(np.float32), "w"))
    x = {"x": rng.normal(size=(1, 4, 9, 9)).astype(np.float32)}
    made = run_model(model_bytes(rewrite_model(loaded, [Replacement(site, factors, "stacked")]).model), x)
    expected = run_model(dense.SerializeToString(), x)
    for name in ("c", "d"):
        np.testing.assert_allclose(made[name], expected[name], atol=1e-4 * float(np.abs(expected[name]).max()))


def test_another_name_is_no_other_use():
    nodes = [helper.make_node("Identity", ["w"], ["v"]), conv("x", "h", pads=[1] * 4), conv("h", "y", "v")]
    loaded, found = surveyed(model(nodes, INPUT, ["y"], {"w": weight((4, 4, 3, 3))}))
    (site,) = found.sites
    assert site.outputs == ("h", "y")
    factors = draw("pw_dw", site.geometry, 1, np.random.default_rng(0))
    after = rewrite_model(loaded, [Replacement(site, factors, "stacked")]).model
    assert "w" not in after.ir.graph.initializers


def test_a_weight_that_something_else_uses_is_left():
    tensors = {"w": weight((4, 4, 3, 3))}
    nodes = [conv("x", "h", pads=[1] * 4), conv("h", "y"), helper.make_node("ReduceSum", ["w"], ["z"], keepdims=0)]
    for proto in (model(nodes, INPUT, ["y", "z"], tensors), model(nodes[:2], INPUT, ["y", "w"], tensors)):
        assert reasons(surveyed(proto)[1]) == {
            "Its weight is used elsewhere too, and would have to change there as well."
        }


def test_layers_that_use_a_weight_in_different_ways_are_left_and_named():
    square = {"w": weight((4, 4, 3, 3))}
    up = helper.make_node("ConvTranspose", ["h", "w"], ["y"])
    cases = [
        [conv("x", "h"), up],
        [helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0, 2, 3]), conv("x", "h"), conv("h", "y", "v")],
    ]
    for nodes in cases:
        used = {name: tensor for name, tensor in square.items() if any(name in node.input for node in nodes)}
        (reason,) = reasons(surveyed(model(nodes, INPUT, ["y"], used))[1])
        assert "in different ways" in reason
        assert "'make_h'" in reason


def test_equal_biases_by_two_names_are_one():
    tensors = {"w": weight((4, 4, 3, 3)), "b": weight((4,)), "c": weight((4,))}
    nodes = [conv("x", "h", bias=("b",)), conv("h", "y", bias=("c",))]
    (site,) = surveyed(model(nodes, INPUT, ["y"], tensors))[1].sites
    assert len(site.uses) == 2


def own_biases() -> onnx.ModelProto:
    """Uses of one weight: with a bias, with another, with none, with one that the caller may feed."""
    nodes = [
        conv("x", "a", bias=("b",), pads=[1] * 4),
        conv("a", "c", bias=("d",), pads=[1] * 4),
        conv("c", "e", pads=[1] * 4),
        conv("e", "y", bias=("f",), pads=[1] * 4),
    ]
    tensors = {"w": weight((4, 4, 3, 3)) / 4, "b": weight((4,)), "d": weight((4,)) + 1, "f": weight((4,)) - 1}
    proto = model(nodes, INPUT, ["y"], tensors)
    proto.graph.input.append(helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, [4]))
    return proto


@pytest.mark.parametrize("biased", [True, False])
def test_uses_with_biases_of_their_own_keep_them_and_share_the_factors(biased: bool) -> None:
    loaded, found = surveyed(own_biases())
    (site,) = found.sites
    assert len(site.uses) == 4
    rng = np.random.default_rng(0)
    factors = draw("pw_dw", site.geometry, 2, rng)
    more = rng.normal(size=4).astype(np.float32) if biased else None
    replacement = Replacement(site, factors, "stacked", more)
    rewritten = rewrite_model(loaded, [replacement])
    assert check_rewrite(loaded, rewritten, [replacement], rng).sites == 1
    dense = own_biases()
    dense.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(reconstruct(factors).astype(np.float32), "w"))
    if more is not None:
        for tensor in dense.graph.initializer[1:]:
            held = onnx.numpy_helper.to_array(tensor) + more
            tensor.CopyFrom(onnx.numpy_helper.from_array(held, tensor.name))
        dense.graph.initializer.append(onnx.numpy_helper.from_array(more, "more"))
        dense.graph.node[2].input.append("more")
    x = {"x": rng.normal(size=(1, 4, 9, 9)).astype(np.float32)}
    made, expected = run_model(model_bytes(rewritten.model), x), run_model(dense.SerializeToString(), x)
    np.testing.assert_allclose(made["y"], expected["y"], atol=1e-4 * float(np.abs(expected["y"]).max()))
    # Two thin layers per use, whose weights are there once; what a caller may feed is still added at run time.
    graph = rewritten.model.ir.graph
    assert sum(node.op_type == "Add" for node in graph) == biased
    assert sum(value.const_value.size > 4 for value in graph.initializers.values()) == 2


def test_a_skip_of_one_use_is_told_of_all() -> None:
    nodes = [conv("x", "h", pads=[1] * 4, group=1), conv("x", "y", group=1)]
    loaded = load(model(nodes, INPUT, ["h", "y"], {"w": weight((4, 4, 3, 3))}))
    skips = survey(loaded, infer_shapes(loaded)).allowing(named("auto"), [CONV]).skips
    assert all(isinstance(skip, Skip) for skip in skips)
    assert [skip.output for skip in skips] == ["h", "y"]
