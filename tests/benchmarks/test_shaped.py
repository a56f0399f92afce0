"""The networks of published shapes have as many parameters as published."""

import pytest

pytest.importorskip("torch")

from tests.benchmarks.shaped import NETWORKS


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 25_557_032), ("mobilenet_v2", 3_504_872)])
def test_a_network_has_as_many_parameters_as_the_published_one(name: str, parameters: int) -> None:
    assert sum(weight.numel() for weight in NETWORKS[name]().parameters()) == parameters
