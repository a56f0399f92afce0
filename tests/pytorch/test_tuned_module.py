"""A module in, a fine-tuned module out: the same numbers as in the tuned ONNX model, in memory and from the files."""

from pathlib import Path

import numpy as np
import pytest
import torch

import sepconvert
from sepconvert.workflows import FineTune, Measure, Planning, RewriteResult
from tests.pytorch.nets import small
from tests.pytorch.test_rebuild import EXAMPLE, assert_same, images

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x=images(96, seed=2).numpy())
    return str(path)


QUICK = Measure(latency=False)
RANDOM = Planning(allow_loss=True)  # weights, of which little is left at rank 1


def rewrite(data: str, tune: FineTune | None) -> RewriteResult:
    return sepconvert.rewrite(
        small(), form="dw-pw", rank=1, data=data, fine_tune=tune, example_inputs=EXAMPLE, measure=QUICK, planning=RANDOM
    )


@pytest.fixture(scope="module")
def tuned(data: str) -> RewriteResult:
    return rewrite(data, FineTune(steps=40))


def test_the_tuned_module_is_the_tuned_onnx_model(tuned: RewriteResult, data: str) -> None:
    figures = tuned.record.fine_tune
    assert figures is not None
    assert figures["best_step"] > 0
    assert figures["divergence_after"] < figures["divergence_before"]
    assert_same(tuned.module, tuned, images())
    plain = rewrite(data, None).module.state_dict()
    changed = {name for name, tensor in tuned.module.state_dict().items() if not torch.equal(tensor, plain[name])}
    assert {"norm.weight", "norm.bias"} <= changed
    assert any(name.startswith("second.") for name in changed)
    assert not any("running" in name for name in changed)


def test_the_files_of_a_tuned_module_rebuild_it(tuned: RewriteResult, tmp_path: Path) -> None:
    tuned.save(tmp_path / "net.onnx")
    again = sepconvert.rebuild(small(), plan=tmp_path / "net.plan.json", weights=tmp_path / "net.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(images()), tuned.module(images()), rtol=0, atol=0)
