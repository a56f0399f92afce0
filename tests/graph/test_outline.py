"""The drawing keeps convolutions and joins and links them as the graph does."""

from pathlib import Path

from sepconvert.graph.load import load_model
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
