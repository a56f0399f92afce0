"""A module in, a module out: the copy computes what the ONNX result computes, and the original stays as it is."""

import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import sepconvert
from sepconvert.errors import ModelError
from sepconvert.graph.parts import NewKernel, with_kernels
from sepconvert.graph.save import model_bytes
from sepconvert.graph.sites import ConvSite
from sepconvert.pytorch.module_plan import ModulePlan, NewLayers
from sepconvert.pytorch.modules import separable
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows import Measure, Planning, Reading, RewriteResult
from tests.pytorch.nets import Small, small

QUICK = Measure(latency=False)
EXAMPLE = torch.zeros(1, 3, 20, 24)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FORMS = [("dw-pw", "branches"), ("dw-pw", "concat"), ("dw-pw", "stacked"), ("pw-dw", "branches"), ("pw-dw", "stacked"),
         ("pw-dw-pw", "stacked"), ("spatial", "stacked"), ("conv-pw", "stacked"),
         ("pw-conv-pw", "stacked")]  # fmt: skip


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 20, 24, generator=torch.Generator().manual_seed(seed))


def run_onnx(result: RewriteResult, x: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model_bytes(result.model), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})


def assert_same(module: nn.Module, result: RewriteResult, x: torch.Tensor) -> None:
    with torch.no_grad():
        y = module(x)
    (expected,) = run_onnx(result, x)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "calibration.npz"
    np.savez(path, x=images(96, seed=2).numpy())
    return str(path)


RANDOM_WEIGHTS = Planning(allow_loss=True)  # of such a network little is left at any rank


@pytest.mark.parametrize(("form", "lowering"), FORMS)
def test_the_module_computes_what_the_rewritten_graph_computes(form: str, lowering: str) -> None:
    planning = Planning(lowering=lowering, allow_growth=True)
    result = sepconvert.rewrite(small(), form=form, rank=2, example_inputs=EXAMPLE, planning=planning, measure=QUICK)
    linear = ["head"] if form == "conv-pw" else []  # the other forms make nothing of a layer of one tap
    assert {site.status for site in result.record.sites} == {"rewritten"}
    assert [site.name for site in result.record.sites] == ["first", "second", "third", *linear]
    assert_same(result.module, result, images())


def test_the_original_its_mode_and_the_generators_stay_as_they_are(calibration: str) -> None:
    net = small().train()
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    result = sepconvert.rewrite(
        net, rank=2, data=calibration, example_inputs=EXAMPLE, measure=QUICK, planning=RANDOM_WEIGHTS
    )
    module = result.module
    assert net.training
    assert all(module.training for module in module.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_fit_reaches_the_module(calibration: str) -> None:
    result = sepconvert.rewrite(
        small(), rank=2, data=calibration, example_inputs=EXAMPLE, measure=QUICK, planning=RANDOM_WEIGHTS
    )
    assert all(site.error_heldout is not None for site in result.record.sites)
    assert_same(result.module, result, images())


def test_refitted_dense_layers_reach_the_module_with_the_biases_that_they_got() -> None:
    found = sepconvert.rewrite(
        small(), rank=2, planning=Planning(exclude=["third"]), example_inputs=EXAMPLE, measure=QUICK
    )
    output = next(site.output for site in found.record.sites if site.name == "third")
    site = ConvSite(
        output, "third", "", "third.weight", None, "float32", ConvGeometry(12, 8, (3, 5), (1, 1), (1, 1), (0,) * 4)
    )
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 12, 3, 5)), rng.normal(size=8)
    model = with_kernels(found.model, [NewKernel(site, *kernel)])
    assert found._modules is not None
    result = replace(found, model=model, _modules=replace(found._modules, model=model))
    assert found._modules.rebuilt().plan.biases == ()
    assert result._modules is not None
    assert result._modules.rebuilt().plan.biases == ("third",)
    assert_same(result.module, result, images())


def test_folded_unfolded_and_module_agree(calibration: str, tmp_path: Path) -> None:
    net = small()
    folded = copy.deepcopy(net)
    folded.first = torch.nn.utils.fuse_conv_bn_eval(net.first, net.norm)
    folded.norm = nn.Identity()
    folded.third = torch.nn.utils.fuse_conv_bn_eval(net.third, net.third_norm)
    folded.third_norm = nn.Identity()
    options = {
        "form": "pw-dw-pw",
        "rank": 4,
        "data": calibration,
        "measure": QUICK,
        "seed": 3,
        "planning": RANDOM_WEIGHTS,
    }
    unfolded = sepconvert.rewrite(net, example_inputs=EXAMPLE, **options)
    result = sepconvert.rewrite(folded, example_inputs=EXAMPLE, **options)
    x = images()
    (one,), (two,) = run_onnx(unfolded, x), run_onnx(result, x)
    scale = np.abs(one).max()
    np.testing.assert_allclose(two, one, atol=1e-4 * scale)
    with torch.no_grad():
        np.testing.assert_allclose(unfolded.module(x).numpy(), one, atol=1e-4 * scale)


def test_the_module_trains_exports_and_compiles() -> None:
    result = sepconvert.rewrite(small().train(), form="dw-pw", rank=2, example_inputs=EXAMPLE, measure=QUICK)
    module, x = result.module, images()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(module(x), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    module.eval()
    with torch.no_grad():
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)(x)
        torch.testing.assert_close(compiled, module(x), rtol=1e-4, atol=1e-5)
    again = sepconvert.analyze(module, example_inputs=EXAMPLE)
    assert {skip.kind for skip in again.skipped} == {"depthwise", "pointwise", "linear"}
    assert again.totals.before.macs == result.record.totals.after.macs


def test_files_beside_the_onnx_model_rebuild_the_module(calibration: str, tmp_path: Path) -> None:
    output = tmp_path / "small.sep.onnx"
    result = sepconvert.rewrite(
        small(), output, rank=2, data=calibration, example_inputs=EXAMPLE, measure=QUICK, planning=RANDOM_WEIGHTS
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "small.sep.onnx", "small.sep.safetensors", "small.sep.plan.json",
    }  # fmt: skip
    files = {"plan": tmp_path / "small.sep.plan.json", "weights": tmp_path / "small.sep.safetensors"}
    for model in (small(seed=7), Small):
        assert_same(sepconvert.rebuild(model, **files), result, images())
    trained_on = sepconvert.rebuild(small().train(), **files)
    assert all(module.training for module in trained_on.modules())
    named = sepconvert.rebuild("tests.pytorch.nets:Small", **files)
    assert not any(module.training for module in named.modules())
    with pytest.raises(ModelError, match="no module 'first'"):
        sepconvert.rebuild(nn.Sequential(), **files)


def test_weights_of_one_rewrite_and_the_plan_of_another_are_refused(tmp_path: Path) -> None:
    for stem, rank in (("a", 1), ("b", 2)):
        sepconvert.rewrite(small(), tmp_path / f"{stem}.onnx", rank=rank, example_inputs=EXAMPLE, measure=QUICK)
    with pytest.raises(ModelError, match="of two rewrites"):
        sepconvert.rebuild(small(), plan=tmp_path / "a.plan.json", weights=tmp_path / "b.safetensors")
    trained = sepconvert.rebuild(small(), plan=tmp_path / "a.plan.json", weights=tmp_path / "a.safetensors")
    torch.save(trained.state_dict(), tmp_path / "later.pt")
    again = sepconvert.rebuild(small(), plan=tmp_path / "a.plan.json", weights=tmp_path / "later.pt")
    torch.testing.assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_a_convolution_used_twice_or_by_two_names_stays_shared() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Conv2d(3, 6, 3, padding=1)
            self.alias = self.start
            self.body = nn.Conv2d(6, 6, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(torch.relu(self.body(self.alias(x))))

    result = sepconvert.rewrite(Twice().eval(), form="dw-pw", rank=1, example_inputs=EXAMPLE, measure=QUICK)
    assert [(site.name, len(site.others)) for site in result.record.sites] == [("alias", 0), ("body", 1)]
    module = result.module
    assert module.get_submodule("start") is module.get_submodule("alias")
    assert not isinstance(module.get_submodule("body"), nn.Conv2d)
    assert_same(module, result, images())


def test_layers_that_are_more_than_a_convolution_are_skipped_with_the_reason() -> None:
    class Padded(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))

    hooked = nn.Conv2d(6, 6, 3)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3))
    net = nn.Sequential(nn.Conv2d(3, 6, 3), Padded(6, 6, 3), hooked, normed).eval()
    result = sepconvert.rewrite(net, form="dw-pw", rank=1, example_inputs=EXAMPLE, measure=QUICK)
    assert [site.name for site in result.record.sites] == ["0"]
    reasons = " ".join(skip.reason for skip in result.record.skipped)
    for words in ("class Padded computes more", "forward hooks", "without a layer of its own"):
        assert words in reasons
    assert_same(result.module, result, images())


def test_a_module_that_is_itself_a_convolution_is_replaced() -> None:
    conv, planning = nn.Conv1d(4, 6, 5, padding=2), Planning(allow_growth=True)
    example = torch.zeros(1, 4, 30)
    result = sepconvert.rewrite(conv, rank=1, form="spatial", example_inputs=example, planning=planning, measure=QUICK)
    x = torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(0))
    assert_same(result.module, result, x)
    assert set(result.module.state_dict()) == {"first.weight", "second.weight", "second.bias"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_new_layers_have_the_type_the_mode_and_the_freedom_of_the_old_one(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(4, 6, 3, stride=(1, 2), dtype=dtype).eval().requires_grad_(False)
    new = separable(conv, NewLayers(Scheme("dw_pw", 2, "branches"), bias=True))
    assert {tensor.dtype for tensor in new.state_dict().values()} == {dtype}
    assert not any(module.training for module in new.modules())
    assert not any(parameter.requires_grad for parameter in new.parameters())
    assert new(torch.zeros(1, 4, 9, 9, dtype=dtype)).shape == conv(torch.zeros(1, 4, 9, 9, dtype=dtype)).shape


def test_a_plan_survives_json_and_a_broken_one_is_refused() -> None:
    plan = ModulePlan({"a.b": NewLayers(Scheme("spatial", 3, "stacked"), True, (3, 1))}, ("c",))
    assert ModulePlan.from_json(plan.to_json(), "plan") == plan
    for text in ("", "[]", '{"schema": 1, "sites": {"a": {"form": "x"}}, "biases": []}', '{"schema": 9}'):
        with pytest.raises(ModelError, match="plan"):
            ModulePlan.from_json(text, "plan")


def test_an_exported_program_gives_files_but_no_module(tmp_path: Path) -> None:
    net = small()
    program = torch.export.export(net, (images(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "small.pt2")
    result = sepconvert.rewrite(tmp_path / "small.pt2", tmp_path / "out.onnx", rank=2, measure=QUICK)
    with pytest.raises(ModelError, match=r"exported program.*sepconvert\.rebuild"):
        _ = result.module
    again = sepconvert.rebuild(net, plan=tmp_path / "out.plan.json", weights=tmp_path / "out.safetensors")
    assert_same(again, result, images())


def test_torchscript_gives_onnx_only(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(small(), images(1)), str(tmp_path / "small.pt"))
    reading = Reading(input_shapes={"x": (1, 3, 20, 24)})
    result = sepconvert.rewrite(tmp_path / "small.pt", tmp_path / "out.onnx", rank=2, reading=reading, measure=QUICK)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.onnx", "small.pt"]
    assert len(run_onnx(result, images())[0]) == 4
    with pytest.raises(ModelError, match="TorchScript"):
        _ = result.module


def test_a_model_that_needs_its_batch_size_is_exported_with_it() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).reshape(1, 6, 18, 22)

    record = sepconvert.analyze(Fixed().eval(), example_inputs=EXAMPLE)
    assert record.inputs[0].declared_shape == [1, 3, 20, 24]
    assert any("batch size is fixed" in warning for warning in record.warnings)


def test_what_cannot_be_exported_is_told_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"Small cannot be exported to ONNX \(.+\)") as caught:
        sepconvert.analyze(small(), example_inputs=torch.zeros(1, 5, 20, 24))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_sizes_and_examples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"pass it, for example example_inputs=torch.zeros\(1, 3, 224, 224\)\."):
        sepconvert.analyze(small())
    with pytest.raises(ModelError, match=r"no input 'y'; it takes x"):
        sepconvert.analyze(small(), reading=Reading(input_shapes={"y": (1, 3, 20, 24)}))
    with pytest.raises(ModelError, match="a dict of tensors for x"):
        sepconvert.analyze(small(), example_inputs=[EXAMPLE, EXAMPLE])
    with pytest.raises(ModelError, match="neither a path nor"):
        sepconvert.analyze(io.BytesIO())  # type: ignore[arg-type]
