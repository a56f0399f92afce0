"""PyTorch times models: it computes what onnxruntime does, and says where it did."""

from pathlib import Path

import numpy as np
import pytest
import torch

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.errors import DeviceError, ModelError, UsageError
from sepconvert.model_bytes import ModelBytes
from sepconvert.planning.latencies import setting_of
from sepconvert.planning.latency_table import Workload
from sepconvert.planning.site_timing import ANY, Effort, time_ways
from sepconvert.pytorch.engine import PyTorch, _Seen
from sepconvert.runtime.timing import Length, time_pair
from sepconvert.separable.forms import FORMS, lowerings
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows.engines import find_engine
from tests.commands import Run
from tests.graph.models import conv_model

QUICK = Effort(seconds=0.0, fewest_rounds=2, most_rounds=2)
SQUARE = ConvGeometry(8, 16, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)).at((9, 9))
LINE = ConvGeometry(8, 8, (5,), (1,), (2,), (4, 4)).at((40,))


def _net() -> bytes:
    """A convolution of three channels."""
    return conv_model((4, 3, 3, 3), image=(1, 3, 8, 8)).SerializeToString()


def on_cpu() -> PyTorch:
    return PyTorch.on("cpu", 1)


@pytest.mark.parametrize("geometry", [SQUARE, LINE], ids=["2d", "1d"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_form_and_lowering_can_be_timed_in_pytorch(geometry: ConvGeometry, dtype: str) -> None:
    ways = [Scheme(form, rank, how) for form in FORMS for rank in (1, 2) for how in lowerings(form, rank)]
    found = time_ways(Workload(geometry, dtype, 2, "Relu"), ways, on_cpu(), np.random.default_rng(0), ANY, QUICK)
    assert list(found) == ways
    assert all(pair.ms > 0 and pair.dense_ms > 0 for pair in found.values())


def test_a_model_is_timed_against_another_and_the_place_is_proven(sample_models_dir: Path) -> None:
    model = sample_models_dir / "fashion_vgg.onnx"
    feeds = {"image": np.zeros((1, 1, 28, 28), np.float32)}
    timed = time_pair(model, model, feeds, rng=np.random.default_rng(0), engine=on_cpu(), length=Length(0.1))
    assert (timed.device, timed.provider, timed.provider_verified) == ("torch:cpu", "PyTorch", True)
    assert timed.after is not None


def test_what_did_not_run_on_the_device_proves_nothing() -> None:
    elsewhere = PyTorch(torch.device("meta"))
    seen = on_cpu().prove(_net(), {"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert (seen.verified, seen.warnings) == (True, ())
    with _Seen() as ran:
        torch.zeros(2, 2) @ torch.zeros(2, 2)
    with pytest.raises(DeviceError, match="ran no operator"):
        ran.judge(elsewhere.device.type, "torch:meta")
    with _Seen() as ran:
        torch.zeros(2, 2) @ torch.zeros(2, 2)
        torch.zeros(1, device="meta") + 1
    proof = ran.judge("meta", "torch:meta")
    assert not proof.verified
    assert proof.warnings == ("PyTorch ran some operators on the CPU: 1 mm.",)


def test_the_number_of_threads_is_as_it_was_after_a_run(sample_models_dir: Path) -> None:
    before = torch.get_num_threads()
    feeds = {"image": np.zeros((1, 1, 28, 28), np.float32)}
    PyTorch.on("cpu", before + 1).load(sample_models_dir / "fashion_vgg.onnx", feeds).run()
    assert torch.get_num_threads() == before


def test_weights_in_files_of_their_own_are_left_to_onnxruntime(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too large for torch:cpu"):
        on_cpu().load(ModelBytes(_net(), tmp_path), {"x": np.zeros((1, 3, 8, 8), np.float32)})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_sentence(run: Run, sample_models_dir: Path) -> None:
    with pytest.raises(DeviceError, match="sees no CUDA device"):
        find_engine("torch:cuda", 1)
    done = run("analyze", sample_models_dir / "fashion_vgg.onnx", "--latency", "--device", "torch:cuda")
    assert done.code == 1
    assert done.err.count("\n") == 1


def test_int8_is_not_timed_in_pytorch(sample_models_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"--device torch:cpu is PyTorch's"):
        sepconvert.analyze(
            sample_models_dir / "fashion_vgg.onnx",
            data="inputs.npz",
            planning=Planning(int8=True),
            measure=Measure(devices=("torch:cpu",)),
            progress=False,
        )


def test_sites_and_whole_models_are_timed_where_it_was_asked(tmp_path: Path) -> None:
    model, measure = tmp_path / "net.onnx", Measure(devices=("torch:cpu",))
    model.write_bytes(conv_model((16, 16, 3, 3), image=(1, 16, 8, 8)).SerializeToString())
    record = sepconvert.analyze(model, form="dw-pw", planning=Planning(cache=False), measure=measure, progress=False)
    (timed,) = record.latency
    assert (timed.device, timed.provider_verified) == ("torch:cpu", True)
    assert record.environment.devices == ["torch:cpu"]
    (site,) = record.sites
    assert site.latency_ms is not None


def test_times_of_pytorch_hold_for_its_version_alone() -> None:
    setting = setting_of(find_engine("torch:cpu", 2))
    assert (setting.device, setting.runtime, setting.threads) == ("torch:cpu", f"torch {torch.__version__}", 2)
