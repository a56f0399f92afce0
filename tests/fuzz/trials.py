"""Run the package on a damaged model in a process of its own, under limits, and say how that ended.

Good ends are a result and a refusal in one sentence. ``report`` holds, for each bad end, enough to tell kinds apart.
"""

import gc
import importlib
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.bases import BASES
from tests.fuzz.mutations import in_bytes, structural

SECONDS, BYTES = 20, 2 << 30
GOOD = ("done", "refused")
KINDS = {"structural": structural, "bytes": in_bytes}
_BUG, _LONG = 3, 4


@dataclass(frozen=True, slots=True)
class End:
    """How a trial ended: ``kind`` is done, refused, traceback, bug, long, time, memory or signal."""

    kind: str
    report: str


def prepare() -> None:
    """Import everything once, not in every child; sessions must not be opened here, whose threads no child has."""
    import onnxruntime  # noqa: F401
    import scipy.linalg  # noqa: F401

    import sepconvert
    from sepconvert.runtime.environment import describe_environment

    for module in pkgutil.walk_packages(sepconvert.__path__, "sepconvert."):
        if not module.name.startswith(("sepconvert.pytorch", "sepconvert.__main__")):
            importlib.import_module(module.name)
    describe_environment(1, ["cpu"])
    gc.freeze()


def damaged(kind: str, seed: int) -> bytes:
    """The damaged model of a seed."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    return KINDS[kind](BASES[sorted(BASES)[seed % len(BASES)]], rng)


def try_model(data: bytes) -> End:
    """Analyse and rewrite a model given as bytes."""

    def work(folder: Path) -> None:
        from sepconvert.errors import SepconvertError
        from sepconvert.workflows import Measure, Outputs, analyze, rewrite

        path = folder / "m.onnx"
        path.write_bytes(data)
        (folder / "w.bin").write_bytes(bytes(4000))
        outputs = Outputs(json=str(folder / "r.json"), force=True)
        refusals = []
        for command in (
            lambda: analyze(path, outputs=outputs),
            lambda: rewrite(path, folder / "o.onnx", rank=0.5, measure=Measure(latency=False), outputs=outputs),
        ):
            try:
                command()
            except SepconvertError as error:
                refusals.append(str(error))
        check_left(folder)
        if refusals:
            raise SepconvertError(max(refusals, key=lambda text: (blames_itself(text), len(text))))

    return try_in_child(work)


def blames_itself(text: str) -> bool:
    """Whether a refusal says that the package is at fault. The names of files in it do not count."""
    return "this is a bug" in text


def check_left(folder: Path) -> None:
    """Nothing half-written may stay."""
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert not left, left


def try_in_child(work: Callable[[Path], None]) -> End:
    """Run ``work`` in a forked process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        log = Path(name) / "log"
        (Path(name) / "work").mkdir()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(_child(work, Path(name) / "work", log))
        _, status, used = os.wait4(child, 0)
        return _judge(status, used.ru_maxrss * 1024, log.read_text(errors="replace") if log.exists() else "")


def _child(work: Callable[[Path], None], folder: Path, log: Path) -> int:
    from sepconvert.errors import SepconvertError

    # CPU seconds: a busy machine is not the model's fault. What only waits is ended by the alarm.
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 2 * BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with (folder.parent / "out").open("w") as out, redirect_stdout(out), redirect_stderr(out):
            work(folder)
    except SepconvertError as error:
        text = str(error)
        log.write_text(text)
        return _BUG if blames_itself(text) else _LONG if "\n" in text or len(text) > 1500 else 1
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames if "sepconvert" in f.filename][-2:]
        log.write_text(f"{type(error).__name__}: {str(error)[:300]} | {' > '.join(ours)}\n{traceback.format_exc()}")
        return 2
    return 0


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _judge(status: int, peak: int, text: str) -> End:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGPROF, signal.SIGALRM):
            return End("time", f"over {SECONDS} s")
        return End("signal", signal.Signals(number).name)
    if peak > BYTES:
        return End("memory", f"{peak / 1e9:.1f} GB {text.splitlines()[:1]}")
    code = os.WEXITSTATUS(status)
    return End({0: "done", 1: "refused", 2: "traceback", _BUG: "bug", _LONG: "long"}.get(code, "signal"), text)
