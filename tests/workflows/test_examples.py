"""Every public name is documented with an example, and the examples run."""

import doctest
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import sepconvert

pytestmark = pytest.mark.slow

DOCUMENTED = [name for name in sepconvert.__all__ if name not in ("__version__", "RewriteResult")]


@pytest.fixture
def folder(sample_models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample models, and with few images, so that a sweep takes a second."""
    (tmp_path / "sample_models").mkdir()
    for model in sample_models_dir.glob("*.onnx"):
        (tmp_path / "sample_models" / model.name).symlink_to(model)
    with np.load(sample_models_dir / "fashion_test.npz") as arrays:
        np.savez(tmp_path / "sample_models" / "fashion_test.npz", image=arrays["image"][:40], y=arrays["y"][:40])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", DOCUMENTED)
@pytest.mark.usefixtures("folder")
def test_the_example_in_the_documentation_runs(name: str) -> None:
    if name == "rebuild" and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(sepconvert, name), name)
    assert found.examples
    result = doctest.DocTestRunner(verbose=False).run(found)
    assert result.failed == 0
