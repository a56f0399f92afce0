from collections.abc import Callable
from dataclasses import replace
from time import sleep
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sepconvert.errors import ModelError
from sepconvert.runtime.runners import bind_runner, make_runner, warm_up
from sepconvert.runtime.sessions import open_session


class RecordingBinding:
    """Stands where onnxruntime's IOBinding is on a GPU: notes what is bound where, and what happens in which order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, ...]] = []

    def bind_ortvalue_input(self, name: str, value: object) -> None:
        self.log.append(("input", name))

    def bind_output(self, name: str, memory: str) -> None:
        self.log.append(("output", name, memory))

    def synchronize_outputs(self) -> None:
        self.log.append(("wait",))


class ReadingRaw:
    """A real onnxruntime session that keeps what its bound runs return."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.results: list[np.ndarray] = []

    def io_binding(self) -> Any:
        return self.raw.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.raw.run_with_iobinding(binding, options)
        self.results = binding.copy_outputs_to_cpu()


def test_bound_runs_give_the_same_result_as_plain_ones(conv_net: Callable[..., bytes]) -> None:
    session = open_session(conv_net(softmax=True))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    reading = ReadingRaw(session.raw)
    bind_runner(replace(session, raw=reading), {"x": x}, "cpu")()
    expected = session.run({"x": x})
    for value, info in zip(reading.results, session.outputs, strict=True):
        np.testing.assert_array_equal(value, expected[info.name])


def test_every_bound_run_waits_for_the_device(conv_net: Callable[..., bytes]) -> None:
    binding = RecordingBinding()

    class Spy:
        def io_binding(self) -> RecordingBinding:
            return binding

        def run_with_iobinding(self, given: object, options: object) -> None:
            binding.log.append(("run",))

    session = replace(open_session(conv_net()), raw=Spy())
    runner = bind_runner(session, {"x": np.zeros((1, 3, 8, 8), np.float32)}, "cpu")
    runner()
    runner()
    assert binding.log == [("input", "x"), ("output", "logits", "cpu"), ("run",), ("wait",), ("run",), ("wait",)]


def test_bfloat16_models_can_be_timed(bfloat16_net: bytes) -> None:
    x = np.ones((2, 3), np.float32)
    runner = make_runner(open_session(bfloat16_net), {"x": x, "b": x.astype(ml_dtypes.bfloat16)})
    assert warm_up(runner, accelerator=False) > 0


def test_warming_up_runs_at_least_thrice_and_more_on_accelerators() -> None:
    for accelerator, least in ((False, 3), (True, 10)):
        calls: list[int] = []
        assert warm_up(lambda calls=calls: calls.append(1), accelerator=accelerator) >= 0
        assert least <= len(calls) <= 100


def test_models_that_take_long_are_warm_after_two_runs() -> None:
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        sleep(0.11)

    assert warm_up(slow, accelerator=False) > 0.1
    assert len(calls) == 2


def test_inputs_that_do_not_fit_fail_in_the_warm_up(conv_net: Callable[..., bytes]) -> None:
    runner = make_runner(open_session(conv_net()), {"x": np.zeros((1, 1, 8, 8), np.float32)})
    with pytest.raises(ModelError, match=r"^onnxruntime could not run the model"):
        warm_up(runner, accelerator=False)
