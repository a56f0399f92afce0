"""A page of a comparison shows layers before and after, and which nodes differ."""

from pathlib import Path

import sepconvert
from sepconvert.report.changes import changes_view
from sepconvert.report.page import render


def test_layers_before_and_after_and_the_nodes_that_differ_are_on_the_page(
    sample_models_dir: Path, tmp_path: Path
) -> None:
    before, after, quick = (
        sample_models_dir / "textbook_standard.onnx",
        tmp_path / "s.onnx",
        sepconvert.Measure(latency=False),
    )
    sepconvert.rewrite(before, after, form="dw-pw", rank=1, measure=quick)
    record = sepconvert.compare(before, after, measure=quick)
    found = changes_view(record)
    assert found is not None
    assert "became other nodes. 1 node is new." in found.summary
    (layer,) = found.layers
    assert [text.split()[0] for text in layer.after] == ["depthwise", "pointwise"]
    page = render(record)
    assert "Graph, before and after" in page
    assert "1 node added" in page
    assert layer.before in page
    assert ">can be rewritten<" not in page  # what was rewritten is drawn so, and the key says so
    assert "“Taken”" not in page  # nothing is known of the other model's errors
