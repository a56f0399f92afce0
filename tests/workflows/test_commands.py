"""The command that a request stands for asks for the same again, whatever kind the model is of."""

from dataclasses import replace
from pathlib import Path

import pytest

from sepconvert.data import Preprocess
from sepconvert.workflows import Measure, Planning, Reading
from sepconvert.workflows.commands import rewrite_command
from sepconvert.workflows.options import Budget
from sepconvert.workflows.request import Request
from tests.workflows.asked import typed

FACTORY = Request(
    model="nets:make",
    data="cal.npz",
    budget=Budget("speedup", 1.5),
    reading=Reading(input_shapes={"x:0": (1, 3, 48, 48)}, weights=Path("w.pt")),
)
EVERYTHING = Request(
    model="my model.onnx",
    data="images",
    test_data="others",
    form="dw-pw",
    budget=Budget("rank", 0.25),
    reading=Reading(preprocess=Preprocess((-0.5, 0.25), (0.5,), 1 / 255, (48, 64), "nhwc")),
    planning=Planning(include=["a*", "b"], exclude=["a1"], lowering="stacked", latency_table=Path("t.json")),
    measure=Measure(devices=("openvino",), threads=2),
    seed=3,
)
RANDOM = Request(model="m.onnx", budget=Budget("params", 0.3), planning=Planning(init="random"))


def test_a_factory_is_named_with_its_weights_and_the_sizes_of_its_inputs() -> None:
    assert rewrite_command(FACTORY) == (
        "sepconvert rewrite nets:make --data cal.npz --weights w.pt --input x:0:1x3x48x48 --form auto --speedup 1.5"
    )


@pytest.mark.parametrize("request_", [FACTORY, EVERYTHING, RANDOM], ids=["factory", "everything", "random"])
def test_the_command_asks_for_what_was_asked_for(request_: Request) -> None:
    command = rewrite_command(request_)
    assert command is not None
    assert replace(typed(command), output=None) == request_


def test_a_live_module_has_no_command() -> None:
    assert rewrite_command(Request(model=object(), data="cal.npz")) is None  # type: ignore[arg-type]
