"""Sizes and types that nobody says come from the data."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sepconvert
from sepconvert.errors import ModelError
from tests.pytorch.nets import small
from tests.pytorch.test_accept import Text

QUICK = sepconvert.Measure(latency=False)
PLANNING = sepconvert.Planning(cache=False, allow_loss=True)
IMAGES = torch.randn(40, 3, 20, 24, generator=torch.Generator().manual_seed(1))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def batches() -> list[dict[str, Any]]:
    return [{"x": IMAGES[:20]}, {"x": IMAGES[20:]}]


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("tests.pytorch.nets:small", "tests.pytorch.test_sizes_from_data:batches"),
        (small(), DataLoader(TensorDataset(IMAGES, torch.arange(40) % 5), batch_size=8)),
    ],
    ids=["factory", "module"],
)
def test_the_data_say_how_large_the_inputs_are(model: Any, data: Any) -> None:
    record = sepconvert.rewrite(model, data=data, rank=1, measure=QUICK, planning=PLANNING).record
    assert record.inputs[0].declared_shape[1:] == [3, 20, 24]
    assert record.fidelity is not None
    assert record.fidelity.samples == 40


def test_types_and_several_inputs_come_from_the_data_too() -> None:
    tokens, weight = np.arange(120).reshape(8, 15) % 50, np.ones((8, 24), np.float32)
    record = sepconvert.analyze(Text().eval(), data={"tokens": tokens, "weight": weight})
    assert [(info.name, info.dtype) for info in record.inputs] == [("tokens", "int64"), ("weight", "float32")]
    assert record.inputs[0].used_shape == [1, 15]


def test_who_holds_several_inputs_in_python_is_asked_for_examples() -> None:
    with pytest.raises(ModelError, match=r'example_inputs=\{"tokens": torch\.zeros.*, "weight": torch'):
        sepconvert.analyze(Text())
    with pytest.raises(ModelError, match=r"example_inputs=torch\.zeros"):
        sepconvert.rewrite(nn.Sequential(nn.Conv2d(3, 8, 3)), rank=2, measure=QUICK)
