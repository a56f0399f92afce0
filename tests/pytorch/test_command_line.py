"""Real PyTorch weights through the command line: state_dict → analyze → rewrite → ONNX → compare → module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sepconvert
from tests.commands import Run
from tests.pytorch.nets import Crepe, ONet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

Told = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    """Run a command in the temporary folder; give its exit code, its record and what it printed for people."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, Any, str]:
        done = run(*arguments, "--json", "-")
        return done.code, done.record, done.err

    return call


def crops(count: int, seed: int) -> np.ndarray:
    """Crops of photographs, scaled as MTCNN does."""
    from skimage import data

    rng = np.random.default_rng(seed)
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    found = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        y, x = (int(rng.integers(side - 48)) for side in photo.shape[:2])
        found.append(photo[y : y + 48, x : x + 48])
    return ((np.stack(found).transpose(0, 3, 1, 2) - 127.5) / 128).astype(np.float32)


def tones(count: int, seed: int) -> np.ndarray:
    """Frames of 64 ms of harmonic tones with noise, scaled as CREPE does."""
    rng = np.random.default_rng(seed)
    pitch, times = rng.uniform(50, 900, (count, 1)), np.arange(1024) / 16_000
    parts = [rng.uniform(0, 1, (count, 1)) / k * np.sin(2 * np.pi * k * pitch * times) for k in range(1, 6)]
    frames = sum(parts) + 0.05 * rng.normal(size=(count, 1024))
    frames -= frames.mean(axis=1, keepdims=True)
    return (frames / frames.std(axis=1, keepdims=True)).astype(np.float32)


def test_o_net_goes_all_the_way(run: Told, onet_weights: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", x=crops(192, seed=0))
    np.savez(tmp_path / "test.npz", x=crops(64, seed=1))
    model = ("tests.pytorch.nets:ONet", "--weights", onet_weights, "--input", "x:1x3x48x48")
    code, record, err = run("analyze", *model)
    assert code == 0, err
    assert [site["name"] for site in record["sites"]] == ["conv1", "conv2", "conv3", "conv4"]
    assert record["totals"]["before"]["params"] == sum(p.numel() for p in ONet().parameters())
    assert record["source"]["path"] == "tests.pytorch.nets:ONet"
    data = ("--data", "calibration.npz", "--test-data", "test.npz")
    code, record, err = run("rewrite", *model, *data, "--rank", 0.5, "--no-latency")
    assert code == 0, err
    assert record["output"]["path"] == "ONet.sep.onnx"
    assert record["totals"]["after"]["macs"] < 0.55 * record["totals"]["before"]["macs"]
    code, record, err = run("compare", *model[:1], "ONet.sep.onnx", *model[1:], "--data", "test.npz", "--no-latency")
    assert code == 0, err
    errors = [o["pre_activation_relative_error"] or o["relative_error"] for o in record["fidelity"]["outputs"]]
    assert max(errors) < 0.1  # half of the MACs, without training; a constant answer would score 1
    module = sepconvert.rebuild("tests.pytorch.nets:ONet", plan="ONet.sep.plan.json", weights="ONet.sep.safetensors")
    code, record, err = run("rewrite", *model, *data, "--rank", 0.5, "--no-latency")
    assert code == 1
    assert "exists; pass --force" in err
    assert_agrees(module.eval(), tmp_path / "ONet.sep.onnx", crops(8, seed=2))


def test_crepe_goes_all_the_way(run: Told, crepe_weights: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", frames=tones(96, seed=0))
    np.savez(tmp_path / "test.npz", frames=tones(64, seed=1))
    model = ("tests.pytorch.nets:Crepe", "--weights", crepe_weights, "--input", "frames:1x1024")
    code, record, err = run("analyze", *model)
    assert code == 0, err
    assert [site["kernel"] for site in record["sites"]] == [[512, 1]] + [[64, 1]] * 5
    target = ("--rank", 0.4, "--data", "calibration.npz", "--no-latency", "-o", "crepe.onnx")
    code, record, err = run("rewrite", *model, *target)
    assert code == 0, err
    assert [site["status"] for site in record["sites"]] == ["kept"] + ["rewritten"] * 5
    code, record, err = run("compare", *model[:1], "crepe.onnx", *model[1:], "--data", "test.npz", "--no-latency")
    assert code == 0, err
    (output,) = record["fidelity"]["outputs"]
    assert output["pre_activation_relative_error"] < 0.05
    module = sepconvert.rebuild(Crepe, plan="crepe.plan.json", weights="crepe.safetensors")
    assert_agrees(module.eval(), tmp_path / "crepe.onnx", tones(8, seed=2))


def assert_agrees(module: torch.nn.Module, path: Path, x: np.ndarray) -> None:
    from sepconvert.runtime.sessions import run_model

    with torch.no_grad():
        found = module(torch.from_numpy(x))
    feeds = {"x" if x.ndim == 4 else "frames": x}
    for tensor, expected in zip(
        found if isinstance(found, tuple) else [found], run_model(path.read_bytes(), feeds).values(), strict=True
    ):
        np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tests.pytorch.nets:Small",), "--input x:1x3x224x224"),
        (("tests.pytorch.nets:nothing",), "has no 'nothing'"),
        (("tests.pytorch.nowhere:Small",), "cannot be imported"),
        (("tests.pytorch.nets:crops",), "has no 'crops'"),
        (("torch:zeros_like",), "TypeError (zeros_like() missing 1 required positional arguments"),
        (("tests.pytorch.nets:Small", "--weights", "absent.pt"), "absent.pt cannot be read"),
        (("absent.onnx", "--weights", "w.pt"), "--weights are for a pkg.module:factory"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(run: Told, arguments: tuple[str, ...], message: str) -> None:
    code, record, err = run("analyze", *arguments)
    assert (code, record) == (2 if "absent.onnx" in arguments else 1, None)
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_weights_that_do_not_fit_name_their_keys(run: Told, onet_weights: Path) -> None:
    code, _, err = run("analyze", "tests.pytorch.nets:Small", "--weights", onet_weights, "--input", "x:1x3x48x48")
    assert code == 1
    assert "missing first.weight" in err
    assert "unexpected conv1.weight" in err
    assert len(err.strip().splitlines()) == 1
