"""One timed run of a session as a plain function, with everything that is not the model taken out of it."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from sepconvert.runtime.sessions import Session, model_errors, quiet_run, to_ort_value

Runner = Callable[[], object]

_WARM_SECONDS = 0.05
_WARM_RUNS, _WARM_SLOW_RUNS = 3, 2  # slow: one run takes longer than _WARM_SECONDS
_ACCELERATOR_WARM_RUNS = 10  # kernels are compiled and chosen for a shape during its first runs


def make_runner(session: Session, feeds: Mapping[str, NDArray[Any]]) -> Runner:
    """Return a function that runs the session once on ``feeds`` and comes back when the result is complete.

    On a device with memory of its own, inputs are copied there beforehand and outputs stay there, so that transfers
    are not timed; each run ends by waiting for the device.
    """
    special = any(info.dtype == "bfloat16" for info in (*session.inputs, *session.outputs))
    if session.device.memory != "cpu" or special:
        return bind_runner(session, feeds, session.device.memory)
    names = [info.name for info in session.outputs]
    given, options, run = dict(feeds), quiet_run(), session.raw.run
    return lambda: run(names, given, options)


def bind_runner(session: Session, feeds: Mapping[str, NDArray[Any]], memory: str) -> Runner:
    """Return a runner whose inputs and outputs are bound in ``memory`` (``cpu``, ``cuda``)."""
    binding = session.raw.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, to_ort_value(array, memory))
    for info in session.outputs:
        binding.bind_output(info.name, memory)
    options, run = quiet_run(), session.raw.run_with_iobinding

    def run_and_wait() -> None:
        run(binding, options)
        # Without this a GPU's kernels are only queued when the clock is read.
        binding.synchronize_outputs()

    return run_and_wait


def warm_up(runner: Runner, *, accelerator: bool) -> float:
    """Run until caches are warm, kernels chosen and memory allocated for this shape; return the fastest run in seconds.

    Raises:
        ModelError: the model cannot run on these inputs.
    """
    times: list[float] = []
    with model_errors("run the model"):
        while len(times) < _least_warm_runs(times, accelerator) or (sum(times) < _WARM_SECONDS and len(times) < 100):
            start = perf_counter()
            runner()
            times.append(perf_counter() - start)
    return min(times)


def _least_warm_runs(times: list[float], accelerator: bool) -> int:
    if accelerator:
        return _ACCELERATOR_WARM_RUNS
    return _WARM_SLOW_RUNS if min(times, default=0.0) > _WARM_SECONDS else _WARM_RUNS
