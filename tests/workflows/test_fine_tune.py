"""``rewrite --fine-tune`` end to end: what it needs, what it brings, how it is stopped and taken up again."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import sepconvert
from sepconvert.errors import OutputError, UsageError
from sepconvert.record import Record
from sepconvert.report.page import render
from sepconvert.terminal.record import print_record
from sepconvert.workflows import FineTune, Measure, Outputs, Planning, fine_tune
from tests.fitting.nets import Net
from tests.workflows.interrupted import interrupted

pytest.importorskip("torch")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUICK = Measure(latency=False)


@pytest.fixture(scope="module")
def few(first_images: Callable[[int], str]) -> str:
    """256 unlabelled images."""
    return first_images(256)


def run(model: Path, output: Path | None, data: str, wanted: FineTune, **options: object) -> Record:
    return sepconvert.rewrite(
        model, output, rank=0.25, form="pw-dw-pw", data=data, fine_tune=wanted, measure=QUICK, **options  # type: ignore[arg-type]
    ).record  # fmt: skip


def test_the_readme_s_example_with_a_folder_of_images_runs(sample_models_dir: Path, tmp_path: Path) -> None:
    command = re.search(r"<!-- fine-tune -->\n```sh\n(.*?)\n```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert command is not None
    (tmp_path / "model.onnx").symlink_to(sample_models_dir / "fashion_resnet.onnx")
    (tmp_path / "images").mkdir()
    with np.load(sample_models_dir / "fashion_calibration.npz") as arrays:
        for number, image in enumerate(arrays["image"][:160, 0].astype(np.float64)):
            grey = np.rint((image * 0.3530 + 0.2860) * 255).clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(tmp_path / "images" / f"{number}.png")
    arguments = [sys.executable, "-m", *shlex.split(command[1]), "--json", "record.json", "--no-latency"]
    done = subprocess.run(
        arguments, cwd=tmp_path, text=True, capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search("Fine-tuned|Fine-tuning for", done.stderr)
    record = Record.read(tmp_path / "record.json")
    assert record.fine_tune is not None
    assert record.fine_tune["divergence_after"] <= record.fine_tune["divergence_before"]
    onnx.checker.check_model(tmp_path / "model.sep.onnx")
    assert not list(tmp_path.glob("*.tuning.*"))


@pytest.fixture(scope="module")
def from_random(resnet: Path, few: str) -> Record:
    return run(resnet, None, few, FineTune(steps=20), planning=Planning(init="random"))


def test_random_layers_are_trained_instead_of_warned_about(from_random: Record) -> None:
    record = from_random
    assert not any("must be trained" in warning for warning in record.warnings)
    assert record.fine_tune is not None
    assert record.fine_tune["layer_wise"] == fine_tune.FROM_RANDOM
    assert record.fine_tune["divergence_before"] < 0.5  # random layers score above 1
    sites = [site for site in record.sites if site.status == "rewritten"]
    assert len(sites) == 6
    assert all(site.error_heldout is not None and site.error_heldout < 0.5 for site in sites)


def test_an_interrupted_training_is_kept_and_taken_up_again(resnet: Path, few: str, tmp_path: Path) -> None:
    whole = run(resnet, tmp_path / "whole.onnx", few, FineTune(steps=25))

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("Fine-tune") and done == 9:
            raise KeyboardInterrupt

    output = tmp_path / "out.onnx"
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run(resnet, output, few, FineTune(steps=25), progress=interrupt)
    assert [path.name for path in tmp_path.glob("out*")] == ["out.onnx.tuning.safetensors"]
    with pytest.raises(OutputError, match="interrupted training"):
        run(resnet, output, few, FineTune(steps=25))
    resumed = run(resnet, output, few, FineTune(steps=25, resume=True))
    assert output.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert [path.name for path in tmp_path.glob("out*")] == ["out.onnx"]
    assert resumed.fidelity == whole.fidelity
    assert resumed.fine_tune is not None
    assert whole.fine_tune is not None
    assert resumed.fine_tune["curve"] == whole.fine_tune["curve"]
    assert [site.rank for site in resumed.sites] == [site.rank for site in whole.sites]
    with pytest.raises(OutputError, match="to resume from"):
        run(resnet, output, few, FineTune(resume=True), outputs=Outputs(force=True))


@pytest.mark.parametrize(("how", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_training_ends_the_command_and_says_how_to_go_on(
    resnet: Path, few: str, tmp_path: Path, how: signal.Signals, expected: int
) -> None:
    command = [
        sys.executable, "-m", "sepconvert", "rewrite", resnet, "-o", tmp_path / "out.onnx", "--rank", "0.25",
        "--form", "pw-dw-pw", "--data", few, "--fine-tune", "--steps", "100000", "--no-latency",
    ]  # fmt: skip
    state = tmp_path / "out.onnx.tuning.safetensors"
    code, err = interrupted(command, state, {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}, how=how)
    assert code == expected, err
    assert "--resume" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


def test_a_graph_that_cannot_be_trained_is_left_as_it_was_fitted(tmp_path: Path) -> None:
    net = Net(4)
    value = net.relu(net.conv("c0", "image", 4, 8))
    maps = net.conv("c1", value, 8, 4)
    graph = helper.make_graph(
        [*net.nodes, helper.make_node("Unique", [maps], ["unique"], sorted=1)],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, 12, 12])],
        [
            helper.make_tensor_value_info(maps, TensorProto.FLOAT, ["N", 4, 12, 12]),
            helper.make_tensor_value_info("unique", TensorProto.FLOAT, ["K"]),
        ],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in net.tensors.items()],
    )
    model, data = tmp_path / "odd.onnx", tmp_path / "data.npy"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    np.save(data, np.random.default_rng(0).normal(size=(64, 4, 12, 12)).astype(np.float32))
    record = sepconvert.rewrite(
        model, rank=1, form="dw-pw", data=str(data), fine_tune=True, measure=QUICK, planning=Planning(allow_loss=True)
    ).record
    assert record.fine_tune is not None
    assert record.fine_tune["steps"] == 0
    assert any("left out" in warning and "Unique" in warning for warning in record.warnings)
    assert all(site.error_heldout is not None for site in record.sites if site.status == "rewritten")
    assert "left out" in render(record)


def test_page_and_terminal_tell_of_the_training(from_random: Record, capsys: pytest.CaptureFixture[str]) -> None:
    again = Record.from_json(from_random.to_json())
    assert again.fine_tune is not None
    page = render(again)
    assert 'id="chart-training"' in page
    assert f"Fine-tuning for {again.fine_tune['steps']} steps" in page
    print_record(again, None)
    assert f"Fine-tuned {again.fine_tune['steps']} steps" in " ".join(capsys.readouterr().err.split())


def test_what_is_missing_or_contradicts_itself_is_said_in_one_line(resnet: Path, few: str) -> None:
    with pytest.raises(UsageError, match="--train-data"):
        sepconvert.rewrite(resnet, fine_tune=True)
    with pytest.raises(UsageError, match="output"):
        run(resnet, None, few, FineTune(resume=True))
    with pytest.raises(UsageError, match="contradict"):
        FineTune(steps=1, epochs=1)
    with pytest.raises(UsageError, match="--augment"):
        FineTune(augment=("turn",))
    with pytest.raises(UsageError, match="--train-weights"):
        FineTune(train_weights="some")
