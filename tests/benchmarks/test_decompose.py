"""The peers do what their papers say, and the graphs written for them compute just that."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sepconvert.separable.forms import FORMS, reconstruct
from sepconvert.separable.geometry import ConvGeometry
from tests.benchmarks.decompose import PEERS
from tests.benchmarks.emit import conv_macs, rewritten, session, with_kernels

pytestmark = pytest.mark.slow

GEOMETRIES = {
    "plain": ConvGeometry(24, 32, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), "NOTSET", (9, 11), (9, 11)),
    "strided": ConvGeometry(32, 48, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), "NOTSET", (9, 11), (5, 6)),
    "uneven": ConvGeometry(24, 32, (5, 3), (1, 2), (2, 1), (3, 0, 1, 2), "NOTSET", (12, 11), (8, 6)),
}
SHARES = (1 / 2, 1 / 3, 1 / 4)


def one_conv(geometry: ConvGeometry, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> onnx.ModelProto:
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], "conv", kernel_shape=geometry.kernel, strides=geometry.stride,
        dilations=geometry.dilation, pads=geometry.pads,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, geometry.in_channels, *geometry.in_spatial])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, geometry.out_channels, *geometry.out_spatial])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return session(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))
@pytest.mark.parametrize("peer", PEERS)
def test_the_written_graph_computes_the_dense_kernel_within_the_stated_macs(
    peer: str, geometry: ConvGeometry, share: float
) -> None:
    if peer == "tucker2":
        pytest.importorskip("tensorly", reason="needs the extra 'bench'")
    rng = np.random.default_rng(7)
    weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    model = one_conv(geometry, weight, rng.standard_normal(geometry.out_channels).astype(np.float32))
    dense = geometry.dense_cost.macs
    shape = (1, geometry.in_channels, *geometry.in_spatial)
    assert conv_macs(model, {"x": shape}) == {"y": dense}
    replacement = PEERS[peer](weight.astype(np.float64), geometry, share * dense)
    assert replacement is not None
    small = rewritten(model, {"y": replacement})
    assert sum(conv_macs(small, {"x": shape}).values()) == replacement.macs < dense
    assert replacement.macs <= share * dense or replacement.rank == "r=1"  # a strided layer's first pointwise is dear
    x = rng.standard_normal(shape).astype(np.float32)
    expected = run(with_kernels(model, {"y": replacement.kernel}), x)
    # Sums of at most C·K products of unit variance in float32, over up to three steps: 1e-5 of the range is generous.
    np.testing.assert_allclose(run(small, x), expected, atol=1e-5 * float(np.ptp(expected)))


@pytest.mark.parametrize(("peer", "form"), [("nd_dw_pw", "dw_pw"), ("nd_pw_dw", "pw_dw")])
def test_network_decoupling_is_our_form_without_data(peer: str, form: str) -> None:
    rng = np.random.default_rng(8)
    geometry = GEOMETRIES["plain"]
    weight = rng.standard_normal(geometry.weight_shape)
    theirs = PEERS[peer](weight, geometry, geometry.dense_cost.macs / 2)
    rank = int(theirs.rank.removeprefix("r="))
    ours = reconstruct(FORMS[form].factorise(weight, rank, geometry, rng))
    np.testing.assert_allclose(theirs.kernel, ours, atol=1e-10)


def test_gdws_is_never_worse_than_network_decoupling_at_the_same_macs() -> None:
    rng = np.random.default_rng(9)
    geometry = GEOMETRIES["plain"]
    weight = rng.standard_normal(geometry.weight_shape) * rng.uniform(0.1, 2, (1, geometry.in_channels, 1, 1))
    uniform = PEERS["nd_dw_pw"](weight, geometry, geometry.dense_cost.macs / 2)
    free = PEERS["gdws"](weight, geometry, uniform.macs)
    assert free.macs == uniform.macs
    assert np.linalg.norm(weight - free.kernel) <= np.linalg.norm(weight - uniform.kernel)
