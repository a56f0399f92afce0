"""What reaches no output is left out, and said."""

import numpy as np
from onnx import helper

from sepconvert.graph.count import count_totals
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.graph.tidy import without_dead_nodes
from sepconvert.separable.forms import named
from tests.graph.models import load, model, weight


def _with_a_dead_branch() -> LoadedModel:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="live", pads=[1] * 4),
        helper.make_node("Conv", ["x", "v"], ["d1"], name="dead", pads=[1] * 4),
        helper.make_node("Conv", ["d1", "w"], ["d2"], name="dead too", pads=[1] * 4),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    return load(model(nodes, {"x": [1, 8, 6, 6]}, tensors={"w": weight((8, 8, 3, 3)), "v": weight((8, 8, 3, 3))}))


def test_dead_nodes_are_neither_counted_nor_sites_and_a_note_names_them() -> None:
    whole = _with_a_dead_branch()
    tidy = without_dead_nodes(whole)
    shapes = infer_shapes(tidy)
    found = survey(tidy, shapes).allowing(named("auto"), [CONV])
    assert [site.name for site in found.sites] == ["live"]  # its weight is not shared any more
    totals = count_totals(tidy, shapes, ["t"])
    assert totals.macs == totals.site_macs == 8 * 36 * 72
    assert totals.params == 8 * 8 * 9
    assert tidy.notes == ("Nodes that no output depends on are left out: Conv 'dead', Conv 'dead too'.",)
    assert len(list(whole.ir.graph)) == 4


def test_a_model_without_dead_nodes_stays_what_it_is() -> None:
    tidy = without_dead_nodes(_with_a_dead_branch())
    assert without_dead_nodes(tidy) is tidy


def test_what_only_a_subgraph_reads_is_alive_and_what_is_dead_in_a_subgraph_is_not() -> None:
    inner = [
        helper.make_node("Mul", ["t", "t"], ["z"]),
        helper.make_node("Conv", ["t", "w"], ["nobody"], name="dead inside", pads=[1] * 4),
    ]
    info = [helper.make_tensor_value_info("z", 1, None)]
    other = [helper.make_node("Identity", ["x"], ["z2"])]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], pads=[1] * 4),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], to=9),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            then_branch=helper.make_graph(inner, "a", [], info),
            else_branch=helper.make_graph(other, "b", [], [helper.make_tensor_value_info("z2", 1, None)]),
        ),
    ]
    tidy = without_dead_nodes(load(model(nodes, {"x": [1, 8, 6, 6]}, tensors={"w": weight((8, 8, 3, 3))})))
    assert [node.op_type for node in tidy.ir.graph] == ["Conv", "ReduceMax", "Cast", "If"]
    assert "dead inside" in tidy.notes[0]


def test_a_convolution_of_constants_is_no_site_and_does_not_change_what_a_batch_is() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], pads=[1] * 4),
        helper.make_node("Conv", ["code", "v"], ["p"], pads=[1] * 4),
        helper.make_node("Add", ["t", "p"], ["y"]),
    ]
    tensors = {"w": weight((8, 8, 3, 3)), "v": weight((8, 8, 3, 3)), "code": weight((1, 8, 6, 6))}
    loaded = load(model(nodes, {"x": [4, 8, 6, 6]}, tensors=tensors))
    shapes = infer_shapes(loaded)
    found = survey(loaded, shapes).allowing(named("auto"), [CONV])
    assert shapes.batch == 4
    assert [site.output for site in found.sites] == ["t"]
    assert [skip.kind for skip in found.skips] == ["constant"]
    assert count_totals(loaded, shapes, ["t"]).macs == 8 * 36 * 72


def test_a_dead_branch_inside_a_dead_if_does_not_hold_what_it_reads() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["n"])], "branch", [], [helper.make_tensor_value_info("n", 1, None)]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="dead"),
        helper.make_node("If", ["c"], ["d"], name="dead too", then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    tidy = without_dead_nodes(load(model(nodes, {"x": [1, 8, 6, 6]}, tensors={"c": np.array(True)})))
    assert [node.op_type for node in tidy.ir.graph] == ["Relu"]
    assert not tidy.ir.graph.initializers
