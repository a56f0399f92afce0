"""Small models with one site in known surroundings, and random factors for it."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.forms import FORMS, lowerings
from sepconvert.separable.forms import draw as draw_factors
from sepconvert.separable.geometry import ConvGeometry

# The IR version that came with each opset boundary: 3 is the last that lists initializers as inputs.
IR_VERSIONS = {7: 3, 11: 6, 13: 7, 18: 8, onnx.defs.onnx_opset_version(): onnx.IR_VERSION}
NEWEST = onnx.defs.onnx_opset_version()

ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "float64": onnx.TensorProto.DOUBLE,
    "bfloat16": onnx.TensorProto.BFLOAT16,
}

WAYS = [(form, lowering) for form in sorted(FORMS) for lowering in lowerings(form, 2)]


def site_of(geometry: ConvGeometry, *, dtype: str = "float32", bias: bool = True) -> ConvSite:
    """The site that ``conv_proto`` holds."""
    return ConvSite("y", "conv", "x", "w", "b" if bias else None, dtype, geometry)


def conv_node(geometry: ConvGeometry, *, bias: bool = True) -> onnx.NodeProto:
    padding: dict[str, Any] = {"pads": geometry.pads}
    if geometry.auto_pad != "NOTSET":
        padding = {"auto_pad": geometry.auto_pad}
    return helper.make_node(
        "Conv",
        ["x", "w", "b"] if bias else ["x", "w"],
        ["y"],
        name="conv",
        strides=geometry.stride,
        dilations=geometry.dilation,
        **padding,
    )


def conv_proto(
    geometry: ConvGeometry,
    rng: np.random.Generator,
    *,
    dtype: str = "float32",
    bias: bool = True,
    opset: int = 18,
) -> onnx.ModelProto:
    """``x → Conv(w, b) → y → Abs → z``, with both ``y`` (the site's) and ``z`` as outputs."""
    kind, numpy_dtype = ELEMENT_TYPES[dtype], np.dtype(dtype)
    tensors = [numpy_helper.from_array(rng.standard_normal(geometry.weight_shape).astype(numpy_dtype), "w")]
    if bias:
        tensors.append(numpy_helper.from_array(rng.standard_normal(geometry.out_channels).astype(numpy_dtype), "b"))
    axes = len(geometry.kernel)
    inputs = [helper.make_tensor_value_info("x", kind, ["n", geometry.in_channels, *[f"i{a}" for a in range(axes)]])]
    if IR_VERSIONS[opset] < 4:
        inputs += [helper.make_tensor_value_info(t.name, kind, t.dims) for t in tensors]
    shape = ["n", geometry.out_channels, *[f"o{a}" for a in range(axes)]]
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name in ("y", "z")]
    nodes = [conv_node(geometry, bias=bias), helper.make_node("Abs", ["y"], ["z"], name="abs")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=tensors)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS[opset], producer_name="tests"
    )


def loaded(proto: onnx.ModelProto) -> LoadedModel:
    return LoadedModel(ir.from_proto(proto), None, None, None)


def random_replacement(
    site: ConvSite,
    form: str,
    rank: int,
    lowering: str,
    rng: np.random.Generator,
    bias: NDArray[np.floating] | None = None,
) -> Replacement:
    return Replacement(site, draw_factors(form, site.geometry, rank, rng), lowering, bias)


@st.composite
def site_geometries(draw: Any, largest: int = 6) -> ConvGeometry:
    """Geometries that a Conv can have: one or two axes, strides, dilations, asymmetric pads or an auto_pad."""
    kernel = draw(
        st.one_of(
            st.tuples(st.integers(2, 6)),
            st.tuples(st.integers(1, 4), st.integers(2, 4)),
            st.sampled_from([(3, 1), (1, 1), (1,)]),
        )
    )
    axes = len(kernel)
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    pads = tuple(draw(st.tuples(*[st.integers(0, 3)] * (2 * axes)))) if auto_pad == "NOTSET" else (0,) * (2 * axes)
    return ConvGeometry(
        draw(st.integers(1, largest)),
        draw(st.integers(1, largest)),
        kernel,
        tuple(draw(st.tuples(*[st.integers(1, 3)] * axes))),
        tuple(draw(st.tuples(*[st.integers(1, 3)] * axes))),
        pads,
        auto_pad,
    )
