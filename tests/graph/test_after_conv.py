"""Scales and additions behind a Conv are found in whatever way they were exported."""

import numpy as np
import onnx_ir as ir
import pytest

from sepconvert.graph.after_conv import Following, follow
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.geometry import ConvGeometry

SCALE = np.array([2.0, -1.0, 0.5])


def constant(name: str, array: np.ndarray) -> ir.Value:
    return ir.val(name, const_value=ir.tensor(array.astype(np.float32)))


def tail(*steps) -> Following:
    """Follow a Conv's output y through ``steps``: (op, the other inputs or y's place among them, attributes)."""
    y = ir.val("y", ir.DataType.FLOAT, ["N", 3, 5, 5])
    value, nodes, extra = y, [], []
    for i, (op, others, attributes) in enumerate(steps):
        inputs = [value if other is Ellipsis else other for other in ((..., *others) if ... not in others else others)]
        extra += [v for v in inputs if v is not None and v is not value and v.producer() is None]
        nodes.append(ir.node(op, inputs, attributes or None, outputs=[ir.Value(name=f"v{i}")]))
        value = nodes[-1].outputs[0]
    conv = ir.node("Conv", [ir.val("x"), ir.val("w")], outputs=[y])
    initializers = [v for v in extra if v.const_value is not None]
    feeds = [*conv.inputs, *(v for v in extra if v.const_value is None)]
    graph = ir.Graph(feeds, [value], nodes=[conv, *nodes], initializers=initializers, opset_imports={"": 17}, name="g")
    geometry = ConvGeometry(3, 3, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    return follow(LoadedModel(ir.Model(graph, ir_version=8)), ConvSite("y", "y", "x", "w", None, "float32", geometry))


def test_a_batch_norm_gives_its_scale():
    gamma, variance = np.array([1.0, 3.0, 0.5]), np.array([4.0, 1.0, 0.25])
    stats = [constant(n, a) for n, a in (("g", gamma), ("b", SCALE), ("m", SCALE), ("v", variance))]
    found = tail(("BatchNormalization", stats, {"epsilon": 1e-3}), ("Relu", [], {}))
    np.testing.assert_allclose(found.scale, gamma / np.sqrt(variance + 1e-3), rtol=1e-6)
    assert found.branch is None


def test_arithmetic_behind_a_transpose_and_casts_gives_the_same_scale():
    wide = SCALE.reshape(1, 1, 1, 3)
    found = tail(
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Cast", [], {"to": 1}),
        ("Sub", [constant("mean", wide)], {}),
        ("Mul", [constant("gamma", wide)], {}),
        ("Add", [constant("beta", wide)], {}),
        ("Relu", [], {}),
    )
    np.testing.assert_allclose(found.scale, SCALE)
    assert found.layout == (0, 2, 3, 1)
    assert found.back == (0, 3, 1, 2)


def test_division_and_reversed_subtraction_are_scales_too():
    found = tail(("Div", [constant("d", SCALE.reshape(3, 1, 1))], {}), ("Sub", [constant("s", np.ones(1)), ...], {}))
    np.testing.assert_allclose(found.scale, -1 / SCALE)


@pytest.mark.parametrize("position", [0, 1])
def test_an_addition_of_another_branch_is_named_and_ends_the_walk(position):
    branch = ir.val("branch")
    others = [..., branch] if position else [branch, ...]
    found = tail(
        ("Mul", [constant("s", np.array(2.0))], {}), ("Add", others, {}), ("Mul", [constant("t", np.ones(1))], {})
    )
    assert found.branch == "branch"
    np.testing.assert_allclose(found.scale, [2, 2, 2])


@pytest.mark.parametrize(
    "step",
    [
        ("Relu", [], {}),
        ("Mul", [ir.val("gate")], {}),
        ("Mul", [constant("rows", np.ones((5, 1)) * 3)], {}),
        ("Div", [constant("numerator", np.full(1, 3.0)), ...], {}),
        ("Mul", [constant("deep", np.full((1, 1, 1, 1, 1), 3.0))], {}),
        ("Div", [constant("zero", np.array([1.0, 0, 1]).reshape(3, 1, 1))], {}),
    ],
)
def test_whatever_is_not_a_scale_per_channel_ends_the_walk(step):
    found = tail(step)
    np.testing.assert_array_equal(found.scale, np.ones(3))
    assert found.branch is None
