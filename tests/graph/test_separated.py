"""What is separable already is found, and nothing else is called so."""

from pathlib import Path

import numpy as np
import pytest

import sepconvert
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.separated import SeparableBlock, find_separable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.workflows import Measure
from tests.fitting.nets import Net


def pairs(model: LoadedModel, **sizes: tuple[int, ...]) -> list[SeparableBlock]:
    return find_separable(model, infer_shapes(model, sizes))


def batch_norm(net: Net, name: str, source: str, channels: int) -> str:
    statistics = [net.tensor(f"{name}.{i}", net.rng.uniform(0.5, 2, channels)) for i in range(4)]
    return net.add("BatchNormalization", name, source, *statistics)


def depthwise(net: Net, name: str, source: str, channels: int, **attributes: object) -> str:
    return net.conv(name, source, 1, channels, **{"group": channels} | attributes)


def pointwise(net: Net, name: str, source: str, inputs: int, outputs: int, *, bias: bool = True) -> str:
    return net.conv(name, source, inputs, outputs, kernel=1, bias=bias)


def forms(found: list[SeparableBlock]) -> list[tuple[str, bool]]:
    return [(pair.form, pair.is_exact) for pair in found]


def test_a_depthwise_convolution_with_a_batch_norm_and_a_pointwise_one_is_one_separable_convolution() -> None:
    net = Net()
    value = batch_norm(net, "bn", depthwise(net, "dw", "image", 4), 4)
    (pair,) = pairs(net.build(pointwise(net, "pw", value, 4, 8)))
    assert (pair.form, pair.rank, pair.is_exact) == ("dw_pw", 1, True)
    assert [piece.name for piece in pair.pieces] == ["dw", "pw"]


def test_an_activation_between_makes_a_block_and_not_a_factorisation() -> None:
    net = Net()
    value = net.relu(depthwise(net, "dw", "image", 4))
    (pair,) = pairs(net.build(pointwise(net, "pw", value, 4, 8)))
    assert forms([pair]) == [("dw_pw", False)]
    assert pair.links[0].between == ("Relu",)


def test_a_second_reader_between_them_makes_a_block() -> None:
    net = Net()
    value = depthwise(net, "dw", "image", 4)
    total = net.add("Add", "sum", pointwise(net, "pw", value, 4, 4), value)
    assert forms(pairs(net.build(total))) == [("dw_pw", False)]


def test_a_depth_multiplier_is_the_rank() -> None:
    net = Net()
    value = net.conv("dw", "image", 1, 12, group=4)
    (pair,) = pairs(net.build(pointwise(net, "pw", value, 12, 8)))
    assert (pair.form, pair.rank) == ("dw_pw", 3)


def test_a_bias_before_padding_is_no_part_of_one_convolution() -> None:
    found = {}
    for bias in (False, True):
        for pads in (0, 1):
            net = Net()
            value = pointwise(net, "pw", "image", 4, 8, bias=bias)
            found[bias, pads] = forms(pairs(net.build(depthwise(net, "dw", value, 8, pads=[pads] * 4))))
    assert found == {
        (False, 0): [("pw_dw", True)],
        (False, 1): [("pw_dw", True)],
        (True, 0): [("pw_dw", True)],
        (True, 1): [("pw_dw", False)],
    }


def test_a_pointwise_layer_belongs_to_one_pair_and_exact_links_come_first() -> None:
    mobile, blueprint = Net(), Net()
    value = "image"
    for i in range(3):
        value = mobile.relu(depthwise(mobile, f"dw{i}", value, 4))
        value = mobile.relu(pointwise(mobile, f"pw{i}", value, 4, 4))
    assert forms(pairs(mobile.build(value))) == [("dw_pw", False)] * 3
    value = "image"
    for i in range(3):
        value = pointwise(blueprint, f"pw{i}", value, 4, 4, bias=False)
        value = blueprint.relu(depthwise(blueprint, f"dw{i}", value, 4))
    assert [pair.pieces[0].name for pair in pairs(blueprint.build(value))] == ["pw0", "pw1", "pw2"]


def test_a_bottleneck_has_both_pointwise_layers() -> None:
    net = Net()
    value = "image"
    for i in range(2):
        inner = net.add("Clip", f"clip{i}", pointwise(net, f"expand{i}", value, 4, 24))
        inner = net.add("Clip", f"clip{i}b", depthwise(net, f"dw{i}", inner, 24))
        value = net.add("Add", f"sum{i}", value, pointwise(net, f"project{i}", inner, 24, 4))
    found = pairs(net.build(value))
    assert [(pair.form, pair.rank, pair.is_exact) for pair in found] == [("pw_dw_pw", 24, False)] * 2


@pytest.mark.parametrize("lowering", ["stacked", "branches", "concat"])
@pytest.mark.parametrize("form", ["dw-pw", "pw-dw", "pw-dw-pw"])
def test_what_a_rewrite_writes_is_found_again(sample_models_dir: Path, form: str, lowering: str) -> None:
    rank = 8 if form == "pw-dw-pw" else 2
    planning = sepconvert.Planning(include=["/block2/conv2/Conv"], lowering=lowering)
    if (form == "pw-dw-pw" and lowering != "stacked") or (form, lowering) == ("pw-dw", "concat"):
        pytest.skip("the form has no such lowering")
    source = sample_models_dir / "fashion_resnet.onnx"
    result = sepconvert.rewrite(source, form=form, rank=rank, planning=planning, measure=Measure(latency=False))
    found = pairs(result.model)
    assert {pair.form for pair in found} == {form.replace("-", "_")}
    assert len(found) == (rank if lowering == "branches" else 1)
    assert all(pair.is_exact for pair in found) or lowering == "concat"
    assert sum(pair.rank for pair in found) == rank


@pytest.mark.parametrize("name", ["fashion_resnet.onnx", "fashion_resnet_bn.onnx", "fashion_vgg.onnx"])
def test_residual_networks_and_plain_ones_have_none(sample_models_dir: Path, name: str) -> None:
    assert pairs(load_model(sample_models_dir / name)) == []


def test_dense_blocks_and_grouped_convolutions_have_none() -> None:
    net = Net(channels=8)
    value, width = "image", 8
    for i in range(3):  # DenseNet: pointwise, 3×3, joined with all before (Huang et al., CVPR 2017)
        grown = net.conv(f"grow{i}", net.relu(pointwise(net, f"squeeze{i}", value, width, 16)), 16, 8)
        value, width = net.add("Concat", f"join{i}", value, grown, axis=1), width + 8
    # ResNeXt: pointwise, 3×3 in groups, pointwise (Xie et al., CVPR 2017)
    inner = net.conv("groups", net.relu(pointwise(net, "reduce", value, width, 16)), 4, 16, group=4)
    assert pairs(net.build(pointwise(net, "widen", net.relu(inner), 16, width))) == []


def test_pooling_between_them_separates_nothing() -> None:
    net = Net()
    value = net.add("GlobalAveragePool", "pool", depthwise(net, "dw", "image", 4))
    assert pairs(net.build(pointwise(net, "pw", value, 4, 8))) == []


def test_every_depthwise_layer_of_pp_ocr_is_accounted_for(ppocr_rec: Path) -> None:
    model = load_model(ppocr_rec)
    found = pairs(model, x=(1, 3, 48, 320))
    assert forms(found) == [("dw_pw", False)] * 14
    assert len({piece.output for pair in found for piece in pair.pieces}) == 28
    layers = [node for node in model.ir.graph if node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1]
    assert {str(node.outputs[0].name) for node in layers} == {pair.depthwise[0].output for pair in found}


def test_an_exact_pair_computes_what_one_convolution_does() -> None:
    """The claim itself: taps times channels, with the BatchNorm's scale between, give the same outputs."""
    from sepconvert.graph.save import model_bytes
    from sepconvert.graph.weights import read_constant
    from sepconvert.runtime.sessions import run_model

    net = Net()
    value = batch_norm(net, "bn", depthwise(net, "dw", "image", 4, bias=False), 4)
    model = net.build(pointwise(net, "pw", value, 4, 8, bias=False))
    gamma, beta, mean, variance = (read_constant(model, f"bn.{i}").astype(np.float64) for i in range(4))
    taps, channels = read_constant(model, "dw.w"), read_constant(model, "pw.w")[:, :, 0, 0].astype(np.float64)
    scale = gamma / np.sqrt(variance + 1e-5)
    dense = Net()
    kernel = np.einsum("mc,c,ckl->mckl", channels, scale, taps[:, 0].astype(np.float64))
    weight, bias = dense.tensor("w", kernel), dense.tensor("b", channels @ (beta - mean * scale))
    one = dense.build(dense.add("Conv", "conv", "image", weight, bias, pads=[1, 1, 1, 1]))
    image = np.random.default_rng(1).standard_normal((1, 4, 12, 12)).astype(np.float32)
    (expected,) = run_model(model_bytes(model), {"image": image}).values()
    (found,) = run_model(model_bytes(one), {"image": image}).values()
    # Sums of 9 + 4 and of 36 products, each rounded to 2⁻²⁴ of terms of at most |x| Σ|w|.
    bound = 60 * 2.0**-24 * np.abs(kernel).reshape(8, -1).sum(1).max() * np.abs(image).max()
    assert np.abs(expected - found).max() <= bound + 60 * 2.0**-24 * np.abs(channels @ (beta - mean * scale)).max()
