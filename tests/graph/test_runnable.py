"""Models that are large run from the files their weights lie in, or from a temporary one."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from sepconvert.graph import save as module
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.save import digest, model_bytes, runnable
from sepconvert.runtime.sessions import run_model
from tests.graph.models import conv_model, load, save_with_external_data, weight

X = weight((1, 16, 9, 9), seed=4)


@pytest.fixture
def stored(tmp_path: Path) -> LoadedModel:
    """A Conv with its weight in a file."""
    save_with_external_data(conv_model((8, 16, 3, 3), bias=True), tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


def test_small_models_hold_all_their_weights(stored: LoadedModel) -> None:
    assert runnable(stored) == model_bytes(stored)
    assert runnable(stored).folder is None


def test_above_the_limit_weights_stay_in_their_file(
    stored: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model_bytes(stored)
    monkeypatch.setattr(module, "INSIDE", 1000)
    made = pickle.loads(pickle.dumps(runnable(stored)))
    assert made.folder == tmp_path
    assert len(made) < 1000 < len(whole)
    np.testing.assert_array_equal(run_model(made, {"x": X})["y"], run_model(whole, {"x": X})["y"])


def test_what_is_in_memory_alone_goes_into_a_folder_that_does_not_outlive_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(conv_model((8, 16, 3, 3), bias=True))
    monkeypatch.setattr(module, "INSIDE", 1000)
    made = runnable(model)
    folder = made.folder
    assert folder is not None
    np.testing.assert_array_equal(run_model(made, {"x": X})["y"], run_model(model_bytes(model), {"x": X})["y"])
    del made
    assert not folder.exists()


def test_the_digest_knows_weights_in_files(stored: LoadedModel, tmp_path: Path) -> None:
    before = digest(stored)
    assert digest(load_model(tmp_path / "m.onnx")) == before
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert digest(load_model(tmp_path / "m.onnx")) != before
