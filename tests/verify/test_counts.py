"""The totals counted from shapes equal those counted from the arrays that onnxruntime really makes."""

import numpy as np
import pytest

from sepconvert.graph.count import count_totals, macs_by_output
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from tests.verify.counting import COUNTED, count_macs_by_running

pytestmark = pytest.mark.slow


def counted_both_ways(path, shape, samples=1):
    """Contraction MACs per output, from shapes (per sample) and by running."""
    model = load_model(path)
    (name,) = [value.name for value in model.ir.graph.inputs if not value.is_initializer()]
    shapes = infer_shapes(model, {name: shape})
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((samples * shape[0], *shape[1:]), dtype=np.float32)}
    ran = count_macs_by_running(path, feeds)
    operators = {node.outputs[0].name: node.op_type for node in model.ir.graph}
    from_shapes = {k: v for k, v in macs_by_output(model, shapes).items() if operators[k] in COUNTED}
    return from_shapes, ran, count_totals(model, shapes, [])


def test_open_nsfw_has_1_07_conv_gmac_per_sample_both_ways(open_nsfw):
    from_shapes, ran, totals = counted_both_ways(open_nsfw, (1, 224, 224, 3))
    assert from_shapes == ran
    assert totals.conv_macs == 1_068_548_096
    assert totals.macs == sum(ran.values())


def test_a_batch_of_three_costs_three_times_the_per_sample_figure(open_nsfw):
    model = load_model(open_nsfw)
    one = count_totals(model, infer_shapes(model), [])
    three = count_totals(model, infer_shapes(model, {"input_0": (3, 224, 224, 3)}), [])
    ran = count_macs_by_running(open_nsfw, {"input_0": np.zeros((3, 224, 224, 3), np.float32)})
    assert one.macs == three.macs
    assert sum(ran.values()) == 3 * (one.macs or 0)


@pytest.mark.parametrize(
    ("fixture", "shape"),
    [("ppocr_det", (1, 3, 320, 320)), ("ppocr_rec", (1, 3, 48, 320)), ("ppocr_cls", (1, 3, 48, 192))],
)
def test_pp_ocr_costs_the_same_both_ways(fixture, shape, request):
    from_shapes, ran, totals = counted_both_ways(request.getfixturevalue(fixture), shape)
    assert from_shapes == ran
    assert totals.macs == sum(ran.values())
    assert totals.uncounted == []


@pytest.mark.parametrize(
    "name", ["resnet50", "shufflenet", "squeezenet", "densenet121", "inception_v2", "bvlc_alexnet"]
)
def test_light_models_cost_the_same_both_ways(name, light_models):
    (path,) = [path for path in light_models if path.name == f"light_{name}.onnx"]
    from_shapes, ran, totals = counted_both_ways(path, (1, 3, 224, 224))
    assert from_shapes == ran
    assert totals.macs == sum(ran.values())
