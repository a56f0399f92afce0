"""Inject faults into ``rewrite`` and check what they leave: ``python -m tests.benchmarks.faults --count 1000``.

Each fault meets a command that replaces a model and its record, in a process of its own: killed at a random
moment, a file function that fails as on a full disk, files cut off at a random size, folders that may not be written.
Afterwards every output must be the old or the new one, whole; after a sentence, all of them the old ones. Then the same
command runs undisturbed: it must succeed, and nothing else may lie in the folder.
"""

import argparse
import encodings.cp437  # noqa: F401 - zipfile needs it, and nobody may not read where it lies
import errno
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sepconvert.errors import SepconvertError
from sepconvert.graph.load import load_model
from sepconvert.record import Record
from sepconvert.workflows import Measure, Outputs, rewrite
from tests.fuzz.bases import BASES
from tests.fuzz.trials import prepare

FILES = ("out.onnx", "r.json")
NOBODY = 65534
KINDS = ("kill", "function", "size", "read-only folder", "read-only cache")


def command(folder: Path, rank: int, *, data: bool = False) -> None:
    """Replace the outputs in ``folder``; ``rank`` tells one generation from the next."""
    rewrite(
        folder / "m.onnx",
        folder / "out" / "out.onnx",
        **({"macs": 0.7, "data": str(folder / "c.npz")} if data else {"rank": rank}),
        measure=Measure(latency=False),
        outputs=Outputs(json=str(folder / "out" / "r.json"), force=True),
    )


def in_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Run ``work`` in a fork: 0 done, 1 refused in a sentence, 2 a traceback, below 0 a signal."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            work()
            code = 0
        except SepconvertError as error:
            code = 1 if "\n" not in str(error) else 2
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def failing(owner: Any, name: str, at: int) -> None:
    """Let the ``at``-th call of a function fail as on a full disk."""
    real, calls = getattr(owner, name), 0

    def fail(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    setattr(owner, name, fail)


def fault(kind: str, folder: Path, rng: random.Random, seconds: float) -> int:
    """Run the command under one fault."""
    if kind == "kill":
        return in_child(lambda: command(folder, 2), rng.random() * 1.2 * seconds)

    def work() -> None:
        if kind == "function":
            owner, name = rng.choice(
                [
                    (pathlib.Path, "write_bytes"),
                    (pathlib.Path, "replace"),
                    (pathlib.Path, "hardlink_to"),
                    (shutil, "copymode"),
                    (tempfile, "mkdtemp"),
                ]
            )
            failing(owner, name, rng.randint(1, 4))
        elif kind == "size":
            size = int(2 ** (rng.random() * 22))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif kind == "read-only folder":
            (folder / "out").chmod(0o555)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        else:
            os.environ["XDG_CACHE_HOME"] = str(folder / "locked")
            os.setresuid(NOBODY, NOBODY, NOBODY)
        command(folder, 2, data=kind == "read-only cache")

    return in_child(work)


def whole(folder: Path) -> None:
    """Read every output back."""
    load_model(folder / "out.onnx")
    Record.read(folder / "r.json")


def contents(folder: Path) -> list[bytes]:
    """The outputs' bytes."""
    return [(folder / name).read_bytes() for name in FILES]


def trial(kind: str, seed: int, seconds: float, start: Path) -> str:
    """Inject one fault; say how it went: ``kind: done``, ``kind: refused``, or what is wrong."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        shutil.copytree(start, folder, dirs_exist_ok=True)
        for path in (folder / "out", *(folder / "out").iterdir()):
            path.chmod(0o777)
        old = contents(folder / "out")
        code = fault(kind, folder, rng, seconds)
        (folder / "out").chmod(0o777)
        try:
            whole(folder / "out")
        except Exception as error:
            return f"{kind}: WRONG, an output is broken: {error!r}"
        left = sorted(path.name for path in (folder / "out").iterdir())
        if code == 2:
            return f"{kind}: WRONG, a traceback"
        if code == 1 and contents(folder / "out") != old:
            return f"{kind}: WRONG, refused but written"
        if code >= 0 and left != sorted(FILES):
            return f"{kind}: WRONG, left {left}"
        if in_child(lambda: command(folder, 3)) != 0:
            return f"{kind}: WRONG, the next run fails"
        if sorted(path.name for path in (folder / "out").iterdir()) != sorted(FILES):
            return f"{kind}: WRONG, something stays after the next run"
        whole(folder / "out")
        return f"{kind}: { ({0: 'done', 1: 'refused'}.get(code, 'killed')) }"


def main() -> int:
    """Inject faults; 1 if any left what it should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then")
    given = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        start = Path(name)
        (start / "out").mkdir()
        (start / "locked").mkdir(mode=0o555)
        (start / "m.onnx").write_bytes(BASES["classifier"].SerializeToString())
        np.savez(start / "c.npz", x=np.random.default_rng(0).standard_normal((24, 4, 12, 12)).astype(np.float32))
        began = time.perf_counter()
        assert in_child(lambda: command(start, 1)) == 0
        seconds = time.perf_counter() - began
        kinds = random.Random(given.seed).choices(KINDS, (10, 5, 3, 1, 1), k=given.count)
        ends: Counter[str] = Counter()
        for i, kind in enumerate(kinds):
            if time.perf_counter() - began > 60 * given.minutes:
                break
            ends[trial(kind, given.seed + i, seconds, start)] += 1
    print(f"{ends.total()} faults")
    for text, count in sorted(ends.items()):
        print(f"{count:6} {text}")
    return int(any("WRONG" in text for text in ends))


if __name__ == "__main__":
    sys.exit(main())
