"""``P z + z`` folds into ``(P + I) z``, exactly but for rounding; what must stay says why."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sepconvert.errors import VerificationError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.residuals import find_residuals, fold_residuals
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.runtime.sessions import run_model
from sepconvert.verify.folds import check_folds
from tests.fitting.nets import Net
from tests.graph.models import DTYPES, load, model


def block(*, stride: int = 1, outputs: int = 8, bias: bool = True, again: bool = False) -> LoadedModel:
    net = Net(channels=4)
    inner = net.conv("dw", "image", 1, 8, group=4)
    mixed = net.conv("pw", inner, 8, outputs, kernel=1, bias=bias, strides=[stride] * 2)
    total = net.add("Add", "total", inner, mixed)
    return net.build(net.add("Mul", "twice", total, mixed) if again else total)


def residuals(found: LoadedModel) -> list[tuple[str, str | None]]:
    return [(one.site.name, one.reason) for one in find_residuals(found, infer_shapes(found))]


@pytest.mark.parametrize("bias", [True, False])
def test_the_sum_goes_into_the_weights(bias: bool) -> None:
    before = block(bias=bias)
    found = find_residuals(before, infer_shapes(before))
    after = fold_residuals(before, found)
    written = ir.to_proto(after.ir)
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == ["Conv", "Conv"]
    assert [value.name for value in written.graph.output] == [value.name for value in before.ir.graph.outputs]
    check = check_folds(before, after, found, np.random.default_rng(0))
    assert 0 < check.max_relative <= check.tolerance
    image = np.random.default_rng(1).standard_normal((2, 4, 12, 12)).astype(np.float32)
    (expected,), (new,) = (run_model(model_bytes(m), {"image": image}).values() for m in (before, after))
    # Two sums of at most 10 products of numbers below 10, each rounded to 2⁻²⁴.
    assert np.abs(expected - new).max() < 20 * 10 * 2.0**-24 * np.abs(expected).max()


@pytest.mark.parametrize("opset", [7, 13, 17])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
def test_every_type_and_opset_is_checked(dtype: str, opset: int) -> None:
    if dtype == "bfloat16" and opset < 13:
        pytest.skip("Add knows no bfloat16 before opset 13")
    rng = np.random.default_rng(2)
    tensors = {
        "w": rng.standard_normal((5, 5, 1)).astype(DTYPES[dtype]),
        "b": rng.standard_normal(5).astype(DTYPES[dtype]),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w", "b"], ["p"], name="pw"),
        onnx.helper.make_node("Add", ["p", "x"], ["y"], name="add"),
    ]
    before = load(model(nodes, {"x": (1, 5, 9)}, tensors=tensors, opset=opset, dtype=DTYPES[dtype]))
    found = find_residuals(before, infer_shapes(before))
    after = fold_residuals(before, found)
    check_folds(before, after, found, np.random.default_rng(0))
    fed = [value.name for value in after.ir.graph.inputs if not value.is_initializer()]
    assert fed == ["x"]


def test_a_wrong_fold_is_caught() -> None:
    before = block()
    found = find_residuals(before, infer_shapes(before))
    wrong = fold_residuals(before, found).ir
    (node,) = (node for node in wrong.graph if node.name == "pw")
    stored = node.inputs[1].const_value.numpy().copy()
    stored[3, 3] -= 1e-4
    node.inputs[1].const_value = ir.tensor(stored)
    with pytest.raises(VerificationError, match="'total'"):
        check_folds(before, replace(before, ir=wrong), found, np.random.default_rng(0))


def test_what_must_stay_says_why() -> None:
    assert residuals(block()) == [("pw", None)]
    assert residuals(block(again=True)) == [("pw", "Something else reads the convolution's output, too.")]
    assert residuals(block(outputs=1)) == []  # broadcast over the channels: no identity can stand for it


def test_a_shared_weight_stays() -> None:
    net = Net(channels=4)
    one = net.conv("pw", "image", 4, 4, kernel=1)
    total = net.add("Add", "total", one, "image")
    found = residuals(net.build(net.add("Conv", "again", total, "pw.w")))
    assert [name for name, _ in found] == ["pw"]
    assert found[0][1] == "Its weight is used elsewhere too."


def test_the_block_s_own_input_is_no_such_sum() -> None:
    net = Net(channels=4)
    mixed = net.conv("pw", net.conv("dw", "image", 1, 4, group=4), 4, 4, kernel=1)
    assert residuals(net.build(net.add("Add", "total", mixed, "image"))) == []
