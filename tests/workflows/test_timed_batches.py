"""A model is timed on batches of the size that was asked for."""

from pathlib import Path

import numpy as np
import pytest

from sepconvert.data import load_data
from sepconvert.errors import DataError
from sepconvert.workflows.measure import feeds_to_time
from sepconvert.workflows.opened import open_model
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source


@pytest.mark.parametrize("count", [None, 5])
def test_a_whole_model_is_timed_on_as_many_samples_as_its_sites(
    sample_models_dir: Path, tmp_path: Path, count: int | None
) -> None:
    path = sample_models_dir / "fashion_vgg.onnx"
    opened = open_model(find_source(path), Request(model=path), {"image": (4, 1, 28, 28)})
    data = None
    if count is not None:
        np.save(tmp_path / "images.npy", np.zeros((count, 1, 28, 28), np.float32))
        data = load_data(tmp_path / "images.npy", opened.shapes.inputs)
    feeds = feeds_to_time(opened, data, np.random.default_rng(0))
    assert feeds["image"].shape == (4, 1, 28, 28)
    if data is not None:
        with pytest.raises(DataError, match="too few to time batches of 4"):
            feeds_to_time(opened, data.first(3), np.random.default_rng(0))
