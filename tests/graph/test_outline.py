"""The drawing keeps convolutions and joins and links them as the graph does."""

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from sepconvert.graph.load import load_bytes, load_model
from sepconvert.graph.outline import condense


def test_a_residual_network_keeps_its_convolutions_and_its_additions(sample_models_dir: Path) -> None:
    model = load_model(sample_models_dir / "fashion_resnet.onnx")
    status = {str(n.outputs[0].name): "eligible" for n in model.ir.graph if n.op_type == "Conv"}
    drawn = condense(model, status)
    ops = [node.op for node in drawn.nodes]
    assert ops[0] == "Input"
    assert ops[-1] == "Output"
    assert ops.count("Conv") == len(status)
    assert ops.count("Add") == sum(n.op_type == "Add" for n in model.ir.graph)
    assert "Relu" not in ops
    joins = [index for index, node in enumerate(drawn.nodes) if node.status == "join"]
    assert all(sum(edge[1] == join for edge in drawn.edges) == 2 for join in joins)
    assert all(edge[0] < edge[1] for edge in drawn.edges)


def test_a_value_that_only_gives_its_shape_away_is_no_path() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Reshape", ["a", "size"], ["y"]),
    ]
    image = [helper.make_tensor_value_info(name, 1, [1, 4, 5, 5]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "g", image[:1], image[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    drawn = condense(load_bytes(model.SerializeToString()), {"a": "eligible"})
    assert [node.op for node in drawn.nodes] == ["Input", "Conv", "Output"]
    assert drawn.edges == [[0, 1], [1, 2]]
