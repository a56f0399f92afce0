"""The sample models, and few of their calibration images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def resnet(sample_models_dir: Path) -> Path:
    return sample_models_dir / "fashion_resnet.onnx"


@pytest.fixture(scope="session")
def vgg(sample_models_dir: Path) -> Path:
    return sample_models_dir / "fashion_vgg.onnx"


@pytest.fixture(scope="session")
def first_images(sample_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Return a function that puts the first calibration images into a file of their own, without labels."""

    def make(count: int) -> str:
        path = tmp_path_factory.mktemp("data") / f"first_{count}.npz"
        with np.load(sample_models_dir / "fashion_calibration.npz") as arrays:
            np.savez(path, image=arrays["image"][:count])
        return str(path)

    return make
