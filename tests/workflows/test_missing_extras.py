"""Without an optional package, what needs it says so in one line with the remedy, and everything else works.

The package is really not there: another interpreter is started, whose search path holds links to everything that is
installed here but the package.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def interpreter_without(package: str, folder: Path, *, run_as: Sequence[str] = ("-m", "sepconvert")) -> Run:
    """Return a function that runs sepconvert's command line, or other code, where ``package`` cannot be found."""
    for entry in sys.path:
        if Path(entry).name not in ("site-packages", "dist-packages"):
            continue
        for installed in Path(entry).iterdir():
            link = folder / installed.name
            if not installed.name.startswith(package) and not link.is_symlink():
                link.symlink_to(installed)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *run_as, *map(str, arguments)]
        environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{folder}"}
        return subprocess.run(command, text=True, capture_output=True, check=False, env=environment)

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return interpreter_without("torch", tmp_path_factory.mktemp("packages"))


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert all(part in line for part in parts), line


def test_fine_tuning_without_pytorch_is_refused_before_any_work(
    run: Run, sample_models_dir: Path, tmp_path: Path
) -> None:
    model, data = sample_models_dir / "fashion_resnet.onnx", sample_models_dir / "fashion_calibration.npz"
    done = run("rewrite", model, "-o", tmp_path / "out.onnx", "--data", data, "--fine-tune", "--quiet")
    assert_refused(done, "--fine-tune needs PyTorch", "pip install '.[torch]'")
    assert list(tmp_path.iterdir()) == []


def test_an_exported_program_without_pytorch_is_recognised_and_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", "{}")
    assert_refused(
        run("analyze", path, "--quiet"), "net.pt2 is a PyTorch model", "torch is not installed", "pip install"
    )


def test_a_factory_without_pytorch_is_refused(run: Run) -> None:
    assert_refused(run("analyze", "somewhere:make", "--quiet"), "somewhere:make is a PyTorch model", "pip install")


def test_the_doctor_names_what_pytorch_would_bring(run: Run) -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    words = " ".join((done.stdout + done.stderr).split())
    assert "not installed; PyTorch models and --fine-tune need it: pip install '.[torch]'" in words


def test_an_onnx_model_needs_no_pytorch(run: Run, sample_models_dir: Path, tmp_path: Path) -> None:
    model = sample_models_dir / "fashion_resnet.onnx"
    done = run("rewrite", model, "-o", tmp_path / "out.onnx", "--rank", 2, "--no-latency", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.onnx").is_file()


def test_several_devices_without_lightning_are_refused(sample_models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    run = interpreter_without("lightning", tmp_path / "packages")
    data = sample_models_dir / "fashion_calibration.npz"
    done = run("rewrite", sample_models_dir / "fashion_resnet.onnx", "-o", tmp_path / "out.onnx", "--data", data,
               "--fine-tune", "--num-devices", 2, "--quiet")  # fmt: skip
    assert_refused(done, "Lightning Fabric", "pip install '.[distributed]'")


def test_a_rewritten_model_goes_back_into_keras_only_where_that_is_installed(
    sample_models_dir: Path, tmp_path: Path
) -> None:
    run = interpreter_without("keras", tmp_path, run_as=("-c",))
    done = run(f"""
import sepconvert
from sepconvert.keras import separable_weights
result = sepconvert.rewrite({str(sample_models_dir / "textbook_standard.onnx")!r}, form="dw-pw", rank=1,
                            measure=sepconvert.Measure(latency=False))
try:
    result.keras(object())
except sepconvert.errors.MissingExtraError as error:
    print(error)
""")
    assert done.stdout.startswith("Keras cannot be imported (No module named 'keras'); pip install '.[keras]'"), done
