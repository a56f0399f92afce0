"""``rewrite --fold``: sums go into pointwise weights, beside a rewrite or alone."""

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.errors import NothingToDoError, UsageError
from tests.commands import Run
from tests.fitting.nets import Net
from tests.verify.test_folds import block

QUICK = Measure(latency=False)


@pytest.fixture
def separable(tmp_path: Path) -> Path:
    path = tmp_path / "block.onnx"
    onnx.save(ir.to_proto(block().ir), path)
    return path


def test_a_fold_alone_is_written_where_nothing_else_is_to_do(separable: Path, tmp_path: Path) -> None:
    result = sepconvert.rewrite(separable, tmp_path / "out.onnx", planning=Planning(fold=True), measure=QUICK)
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Conv", "Conv"]
    record = result.record
    assert [(fold.name, fold.status) for fold in record.folds] == [("pw", "folded")]
    assert record.self_check is not None
    assert record.self_check.sites == 1
    assert record.fidelity is not None
    # The two differ by the rounding of sums of eight products: 2⁻²⁴ each, squared.
    assert (record.fidelity.worst.decisive_error or 0) < 1e-12  # type: ignore[union-attr]
    assert record.totals.after is not None
    assert record.totals.after.macs == record.totals.before.macs


def test_without_the_option_nothing_is_folded_and_the_record_says_that_it_could_be(separable: Path) -> None:
    with pytest.raises(NothingToDoError, match="separable already: 1 pair of depthwise and pointwise"):
        sepconvert.rewrite(separable, measure=QUICK)
    assert [fold.status for fold in sepconvert.analyze(separable).folds] == ["foldable"]


def test_a_budget_that_was_asked_for_is_not_forgotten_for_a_fold(tmp_path: Path) -> None:
    net = Net(channels=4)
    wide = net.conv("wide", "image", 4, 8)
    mixed = net.conv("pw", wide, 8, 8, kernel=1)
    onnx.save(ir.to_proto(net.build(net.add("Add", "total", wide, mixed)).ir), tmp_path / "m.onnx")
    with pytest.raises(NothingToDoError):
        sepconvert.rewrite(tmp_path / "m.onnx", macs=0.001, planning=Planning(fold=True), measure=QUICK)
    both = sepconvert.rewrite(tmp_path / "m.onnx", rank=1, planning=Planning(fold=True), measure=QUICK).record
    assert [site.status for site in both.sites] == ["rewritten"]
    assert [fold.status for fold in both.folds] == ["folded"]
    alone = sepconvert.rewrite(tmp_path / "m.onnx", planning=Planning(fold=True, exclude=["*"]), measure=QUICK).record
    assert [site.status for site in alone.sites] == ["kept"]
    assert [fold.status for fold in alone.folds] == ["folded"]


def test_a_convolution_that_was_rewritten_keeps_its_sum(separable: Path) -> None:
    record = sepconvert.rewrite(separable, form="conv-pw", rank=2, planning=Planning(fold=True), measure=QUICK).record
    assert [(fold.status, fold.reason) for fold in record.folds] == [
        ("kept", "Its convolution was rewritten and has no weights of its own any more.")
    ]
    assert any("nothing was folded" in note for note in record.notes)


def test_the_command_folds(run: Run, separable: Path, tmp_path: Path) -> None:
    done = run("rewrite", separable, "-o", tmp_path / "o.onnx", "--fold", "--no-latency")
    assert done.code == 0
    assert "1 sum folded into pointwise weights (P + I): pw." in done.err


def test_a_pytorch_model_is_refused_in_one_sentence() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="--fold takes an addition out of the graph"):
        sepconvert.rewrite(
            torch.nn.Conv2d(2, 2, 3), example_inputs=torch.zeros(1, 2, 5, 5), planning=Planning(fold=True)
        )
