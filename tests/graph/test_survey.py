from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.errors import ModelError
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, LAYERS
from sepconvert.graph.survey import Survey, is_conv_like, survey
from sepconvert.graph.weights import read_constant
from sepconvert.separable.forms import named
from tests.graph.models import NEWEST_OPSET, conv_model, load, model, weight


def surveyed(proto: onnx.ModelProto) -> Survey:
    loaded = load(proto)
    return survey(loaded, infer_shapes(loaded)).allowing(named("auto"), [CONV])


def skip_of(proto: onnx.ModelProto) -> tuple[str, str]:
    found = surveyed(proto)
    assert found.sites == ()
    (skip,) = found.skips
    assert skip.reason.endswith(".")
    return skip.op, skip.kind


def site_of(proto: onnx.ModelProto):
    found = surveyed(proto)
    assert found.skips == ()
    (site,) = found.sites
    return site


def kinds(path, input_shapes=None, form="auto", layers=(CONV,)):
    loaded = load_model(path)
    found = survey(loaded, infer_shapes(loaded, input_shapes)).allowing(named(form), layers)
    return len(found.sites), dict(Counter(skip.kind for skip in found.skips))


def test_open_nsfw_has_17_sites_and_36_pointwise(open_nsfw):
    assert kinds(open_nsfw) == (17, {"pointwise": 36, "linear": 1})
    assert kinds(open_nsfw, form="any", layers=LAYERS) == (54, {})


def test_pp_ocr_detector_has_6_sites(ppocr_det):
    expected = (6, {"pointwise": 42, "depthwise": 14, "transposed": 2})
    assert kinds(ppocr_det) == expected
    assert kinds(ppocr_det, {"x": (1, 3, 640, 640)}) == expected


def test_pp_ocr_recogniser_has_3_sites(ppocr_rec):
    assert kinds(ppocr_rec) == (3, {"pointwise": 21, "depthwise": 14, "unknown-shape": 9})
    sized = kinds(ppocr_rec, {"x": (1, 3, 48, 320)}, form="any", layers=LAYERS)
    assert sized == (33, {"depthwise": 14})


def test_pp_ocr_classifier_has_1_site(ppocr_cls):
    assert kinds(ppocr_cls) == (1, {"pointwise": 41, "depthwise": 11, "linear": 1})


def test_every_convolution_of_the_real_models_is_accounted_for(model_zoo, light_models):
    for path in [*model_zoo.glob("*.onnx"), *light_models]:
        loaded = load_model(path)
        found = survey(loaded, infer_shapes(loaded))
        outputs = [site.output for site in found.sites] + [skip.output for skip in found.skips]
        ours = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")
        convs = {n.outputs[0].name for n in loaded.ir.graph.all_nodes() if n.op_type in ours}
        assert sorted(output for output in outputs if output in convs) == sorted(
            n.outputs[0].name for n in loaded.ir.graph.all_nodes() if n.op_type in ours
        )


def test_the_light_resnet50_is_the_well_known_net(light_models):
    (path,) = [path for path in light_models if "resnet50" in path.name]
    assert kinds(path) == (17, {"pointwise": 36, "linear": 1})


def test_a_site_states_its_geometry():
    attributes = {"strides": [2, 1], "dilations": [1, 2], "pads": [0, 1, 2, 3]}
    site = site_of(conv_model((6, 4, 3, 5), image=("n", 4, 20, 30), bias=True, **attributes))
    assert (site.output, site.name, site.input, site.weight, site.bias) == ("y", "conv", "x", "w", "b")
    geometry = site.geometry
    assert (geometry.out_channels, geometry.in_channels, geometry.kernel) == (6, 4, (3, 5))
    assert (geometry.stride, geometry.dilation, geometry.pads) == ((2, 1), (1, 2), (0, 1, 2, 3))
    # Height: (20 + 0 + 2 - 3) // 2 + 1; width: 30 + 1 + 3 - 8.
    assert (geometry.in_spatial, geometry.out_spatial) == ((20, 30), (10, 26))
    assert geometry.images == 1
    assert site.keep_reason is None


def test_attributes_that_are_not_stated_have_onnx_defaults():
    geometry = site_of(conv_model()).geometry
    assert (geometry.stride, geometry.dilation, geometry.pads) == ((1, 1), (1, 1), (0, 0, 0, 0))
    assert geometry.auto_pad == "NOTSET"


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad_is_kept_by_name(auto_pad):
    geometry = site_of(conv_model(auto_pad=auto_pad)).geometry
    assert geometry.auto_pad == auto_pad
    assert geometry.out_spatial == ((7, 7) if auto_pad == "VALID" else (9, 9))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
def test_every_floating_type_makes_a_site(dtype):
    opset = NEWEST_OPSET if dtype == "bfloat16" else 17
    assert site_of(conv_model(dtype=dtype, opset=opset)).dtype == dtype


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, NEWEST_OPSET])
def test_every_opset_makes_a_site(opset):
    assert site_of(conv_model(opset=opset)).output == "y"


def test_a_one_dimensional_conv_is_a_site():
    assert site_of(conv_model((6, 4, 5))).geometry.kernel == (5,)


def test_an_asymmetric_kernel_with_one_side_of_1_is_a_site():
    assert site_of(conv_model((6, 4, 1, 3))).geometry.kernel == (1, 3)


def test_one_channel_in_or_out_makes_a_site_that_is_kept():
    assert (
        site_of(conv_model((6, 1, 3, 3))).keep_reason
        == "one input channel: nothing to separate (--form any has forms for it)"
    )
    assert (
        site_of(conv_model((1, 4, 3, 3))).keep_reason
        == "one output channel: nothing to separate (--form any has forms for it)"
    )


def test_a_dynamic_image_leaves_the_size_open():
    geometry = site_of(conv_model(image=(1, 4, "h", "w"))).geometry
    assert geometry.in_spatial is None
    assert geometry.dense_cost.macs is None


def test_a_node_without_a_name_is_called_by_its_output():
    proto = conv_model()
    proto.graph.node[0].name = ""
    assert site_of(proto).name == "y"


def test_repeated_node_names_stay_apart_by_output():
    nodes = [helper.make_node("Conv", [a, w], [b], name="same") for a, w, b in (("x", "w", "h"), ("h", "v", "y"))]
    tensors = {"w": weight((4, 4, 3, 3)), "v": weight((4, 4, 3, 3), seed=1)}
    found = surveyed(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors))
    assert [(site.name, site.output) for site in found.sites] == [("same", "h"), ("same", "y")]


@pytest.mark.parametrize(
    ("shape", "group", "kind"),
    [
        ((6, 4, 1, 1), 1, "pointwise"),
        ((6, 4, 1), 1, "pointwise"),
        ((4, 1, 3, 3), 4, "depthwise"),
        ((8, 1, 3, 3), 4, "depthwise"),
        ((6, 2, 3, 3), 2, "grouped"),
        ((6, 2, 1, 1), 2, "grouped"),
        ((8, 1, 3, 3, 3), 4, "depthwise"),
    ],
)
def test_geometries_that_are_no_site(shape, group, kind):
    assert skip_of(conv_model(shape, group=group)) == ("Conv", kind)


@pytest.mark.parametrize("dilation", [6, 12, 18, 24, 36])
def test_a_convolution_of_a_spatial_pyramid_is_a_site_whatever_its_dilation(dilation):
    pads = {"dilations": [dilation] * 2, "pads": [dilation] * 4}
    assert site_of(conv_model((8, 2048, 3, 3), image=(1, 2048, 65, 65), **pads)).geometry.dilation == (dilation,) * 2


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [4000, 3000] * 2},
        {"auto_pad": "SAME_UPPER", "dilations": [1, 4000]},
        {"pads": [1] * 4, "strides": [2**20, 1]},
    ],
)
def test_what_would_take_gigabytes_to_check_is_skipped(attributes):
    assert skip_of(conv_model((8, 8, 3, 3), image=(1, 8, 600, 600), **attributes)) == ("Conv", "far-reaching")


def test_transposed_convolutions_are_skipped():
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    assert skip_of(model([node], {"x": (1, 4, 9, 9)}, tensors={"w": weight((4, 6, 3, 3))})) == (
        "ConvTranspose",
        "transposed",
    )


def test_deformable_convolutions_are_skipped():
    node = helper.make_node("DeformConv", ["x", "w", "offsets"], ["y"])
    inputs = {"x": (1, 4, 9, 9), "offsets": (1, 18, 7, 7)}
    proto = model([node], inputs, tensors={"w": weight((6, 4, 3, 3))}, opset=19)
    assert skip_of(proto) == ("DeformConv", "deformable")


def test_integer_convolutions_are_skipped_as_quantized():
    nodes = [helper.make_node("ConvInteger", ["x", "w"], ["h"]), helper.make_node("Cast", ["h"], ["y"], to=2)]
    proto = model(nodes, {"x": (1, 4, 9, 9)}, tensors={"w": weight((6, 4, 3, 3)).astype(np.uint8)}, dtype=np.uint8)
    assert skip_of(proto) == ("ConvInteger", "quantized")


def test_quantized_linear_convolutions_are_skipped():
    scale, zero = np.float32(0.1), np.uint8(3)
    names = ["x", "s", "z", "w", "s", "z", "s", "z"]
    tensors = {"s": scale, "z": zero, "w": weight((6, 4, 3, 3)).astype(np.uint8)}
    proto = model([helper.make_node("QLinearConv", names, ["y"])], {"x": (1, 4, 9, 9)}, tensors=tensors, dtype=np.uint8)
    assert skip_of(proto) == ("QLinearConv", "quantized")


@pytest.mark.parametrize("extra", [[], ["Identity"], ["Transpose"]])
def test_a_dequantized_weight_is_skipped_whatever_follows_the_dequantization(extra):
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w0"])]
    for index, op in enumerate(extra):
        attributes = {"perm": [0, 1, 3, 2]} if op == "Transpose" else {}
        nodes.append(helper.make_node(op, [f"w{index}"], [f"w{index + 1}"], **attributes))
    nodes.append(helper.make_node("Conv", ["x", f"w{len(extra)}"], ["y"]))
    tensors = {"q": weight((6, 4, 3, 3)).astype(np.int8), "s": np.float32(0.1)}
    assert skip_of(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors)) == ("Conv", "quantized")


def test_a_weight_that_is_computed_is_dynamic():
    nodes = [helper.make_node("Mul", ["w", "k"], ["v"]), helper.make_node("Conv", ["x", "v"], ["y"])]
    proto = model(nodes, {"x": (1, 4, 9, 9), "k": (1,)}, tensors={"w": weight((6, 4, 3, 3))})
    assert skip_of(proto) == ("Conv", "dynamic-weight")


def test_a_weight_that_is_fed_is_dynamic():
    proto = model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": (1, 4, 9, 9), "w": (6, 4, 3, 3)})
    assert skip_of(proto) == ("Conv", "dynamic-weight")


def test_a_random_weight_is_dynamic():
    nodes = [helper.make_node("RandomNormal", [], ["w"], shape=[6, 4, 3, 3])]
    nodes.append(helper.make_node("Conv", ["x", "w"], ["y"]))
    assert skip_of(model(nodes, {"x": (1, 4, 9, 9)})) == ("Conv", "dynamic-weight")


def with_weight_as_input(ir_version: int) -> onnx.ModelProto:
    proto = conv_model(opset=8)
    proto.ir_version = ir_version
    return proto


def test_a_weight_among_the_inputs_is_a_constant_before_ir_version_4_and_overridable_after():
    assert site_of(with_weight_as_input(3)).weight == "w"
    assert skip_of(with_weight_as_input(4)) == ("Conv", "overridable-weight")


def test_a_weight_that_is_an_output_is_shared():
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": (1, 4, 9, 9)}, ["y", "w"], {"w": weight((6, 4, 3, 3))})
    assert skip_of(proto) == ("Conv", "shared-weight")


def test_a_weight_that_a_subgraph_uses_too_is_shared():
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="outer"),
        helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=renamed(body)),
    ]
    proto = model(nodes, {"x": (1, 4, 9, 9)}, ["y", "z"], {"w": weight((6, 4, 3, 3)), "c": np.array(True)})
    found = surveyed(proto)
    assert found.sites == ()
    assert {skip.name: skip.kind for skip in found.skips} == {
        "outer": "shared-weight",
        "inner": "subgraph",
        "other": "subgraph",
    }


def renamed(body: onnx.GraphProto) -> onnx.GraphProto:
    other = onnx.GraphProto()
    other.CopyFrom(body)
    other.node[0].output[0] = other.output[0].name = "other"
    return other


def test_a_conv_in_a_function_is_skipped_with_the_remedy():
    conv = helper.make_node("Conv", ["a", "b"], ["c"], name="inner")
    function = helper.make_function("local", "Block", ["a", "b"], ["c"], [conv], [helper.make_opsetid("", 17)])
    node = helper.make_node("Block", ["x", "w"], ["y"], domain="local")
    proto = model(
        [node],
        {"x": (1, 4, 9, 9)},
        tensors={"w": weight((6, 4, 3, 3))},
        functions=[function],
        domains={"local": 1},
    )
    (skip,) = surveyed(proto).skips
    assert (skip.name, skip.kind) == ("Block/inner", "function")
    assert "onnx.inliner" in skip.reason


def test_a_function_called_like_a_conv_is_judged_by_its_body():
    body = helper.make_node("Relu", ["a"], ["c"])
    function = helper.make_function("local", "Conv2d", ["a"], ["c"], [body], [helper.make_opsetid("", 17)])
    node = helper.make_node("Conv2d", ["x"], ["y"], domain="local")
    proto = model([node], {"x": (1, 4, 9, 9)}, functions=[function], domains={"local": 1})
    assert surveyed(proto) == Survey((), ())


@pytest.mark.parametrize("op", ["FusedConv", "NhwcConv", "QLinearConv", "Conv", "SomeConvolution"])
def test_convs_of_other_domains_are_skipped(op):
    node = helper.make_node(op, ["x", "w"], ["y"], domain="com.microsoft")
    proto = model([node], {"x": (1, 4, 9, 9)}, tensors={"w": weight((6, 4, 3, 3))}, domains={"com.microsoft": 1})
    assert skip_of(proto) == (op, "unknown-domain")


def test_a_conversion_is_no_convolution():
    node = helper.make_node("ConvertLayout", ["x"], ["y"], domain="com.example")
    loaded = load(model([node], {"x": (1,)}, domains={"com.example": 1}))
    assert not is_conv_like(loaded.ir.graph[0], loaded.ir)


# Where a weight may live.


def constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


W = weight((6, 4, 3, 3))
SOURCES = {
    "constant": ([constant("w", W)], {}, W),
    "identity": ([helper.make_node("Identity", ["v"], ["w"])], {"v": W}, W),
    "constant-identity": ([constant("v", W), helper.make_node("Identity", ["v"], ["w"])], {}, W),
    "cast": ([helper.make_node("Cast", ["v"], ["w"], to=1)], {"v": W.astype(np.float16)}, W.astype(np.float16)),
    "transpose": (
        [helper.make_node("Transpose", ["v"], ["w"], perm=[3, 2, 0, 1])],
        {"v": np.ascontiguousarray(W.transpose(2, 3, 1, 0))},
        W,
    ),
    "reshape": (
        [helper.make_node("Reshape", ["v", "s"], ["w"])],
        {"v": W.ravel(), "s": np.array(W.shape, dtype=np.int64)},
        W,
    ),
    "scaled": ([helper.make_node("Mul", ["v", "k"], ["w"])], {"v": W, "k": np.float32(2)}, W * 2),
    "fill": (
        [helper.make_node("ConstantOfShape", ["s"], ["w"], value=helper.make_tensor("", 1, [1], [0.5]))],
        {"s": np.array(W.shape, dtype=np.int64)},
        np.full_like(W, 0.5),
    ),
}


# ConstantOfShape came with opset 9.
@pytest.mark.parametrize(("source", "opset"), [(s, o) for s in SOURCES for o in (8, 17) if (s, o) != ("fill", 8)])
def test_a_weight_from_constants_makes_a_site_and_reads_as_what_it_is(source, opset):
    nodes, tensors, expected = SOURCES[source]
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    loaded = load(model([*nodes, conv], {"x": (1, 4, 9, 9)}, tensors=tensors, opset=opset))
    (site,) = survey(loaded, infer_shapes(loaded)).sites
    assert site.dtype == "float32"
    assert site.geometry.weight_shape == W.shape
    np.testing.assert_array_equal(read_constant(loaded, site.weight), expected.astype(np.float32))


# Contradictions.


def refusal(proto: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as error:
        surveyed(proto)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_weight_for_other_channels_than_the_input_has_is_refused():
    assert "for 4 input channels, but its input has 5" in refusal(conv_model(image=(1, 5, 9, 9)))


def test_a_grouped_weight_for_other_channels_is_refused_too():
    assert "for 8 input channels, but its input has 4" in refusal(conv_model(group=2, image=(1, 4, 9, 9)))


def test_channels_that_do_not_divide_into_groups_are_refused():
    assert "do not divide into 4 groups" in refusal(conv_model((6, 4, 3, 3), group=4))


def test_a_kernel_shape_that_is_not_the_weights_is_refused():
    assert "kernel_shape is [5, 5]" in refusal(conv_model(kernel_shape=[5, 5]))


def test_strides_for_another_number_of_axes_are_refused():
    assert "strides" in refusal(conv_model(strides=[1, 1, 1]))


def test_a_zero_sized_weight_is_refused():
    assert "[6, 4, 0, 3]" in refusal(conv_model((6, 4, 0, 3)))


def test_a_bias_of_another_length_is_refused():
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    proto = model([node], {"x": (1, 4, 9, 9)}, tensors={"w": W, "b": weight((5,))})
    assert "a bias of shape [5]" in refusal(proto)


def test_an_image_of_another_rank_than_the_weight_is_refused():
    assert "its input has 3 dimensions" in refusal(conv_model(image=(1, 4, 9)))
