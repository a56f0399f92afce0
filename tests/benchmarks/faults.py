"""Inject faults into ``rewrite`` and check what they leave: ``python -m tests.benchmarks.faults --count 1000``.

Each fault meets a command that replaces a model, its record and a page, in a process of its own: killed at a random
moment or at a random change of a file, a file function that fails as on a full disk, files cut off at a random size,
folders and caches that may not be written. In every second trial the weights lie in a file of their own; every third
writes a page.
Afterwards every output must be the old or the new one, whole; after a sentence, all of them the old ones. Then the same
command runs undisturbed: it must succeed, and nothing else may lie in the folder. ``--json`` keeps the count.
"""

import argparse
import ctypes
import errno
import importlib
import json
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepconvert.errors import SepconvertError
from sepconvert.graph import save
from sepconvert.graph.load import load_model
from sepconvert.graph.save import digest
from sepconvert.record import Record
from sepconvert.report.charts import runtime
from sepconvert.workflows import Measure, Outputs, Planning, rewrite
from tests.benchmarks.fuzz import current_commit
from tests.fuzz.bases import BASES
from tests.fuzz.trials import prepare

MODEL, RECORD, PAGE = "out.onnx", "r.json", "p.html"
KINDS = {"kill": 8, "kill at a change": 8, "function": 6, "size": 4, "read-only folder": 1, "read-only cache": 1}
FAILING = (
    (pathlib.Path, "write_bytes"),
    (pathlib.Path, "replace"),
    (pathlib.Path, "hardlink_to"),
    (shutil, "copymode"),
    (tempfile, "mkdtemp"),
    (os, "open"),
)
CHANGES = (*FAILING, (pathlib.Path, "unlink"), (pathlib.Path, "rmdir"))


@dataclass(frozen=True)
class Shape:
    """What a trial's command writes: weights in a file of their own or not, a page or none (it takes the most time)."""

    external: bool
    page: bool

    @property
    def files(self) -> list[str]:
        """Names of all outputs, without the digest in that of the weights."""
        return sorted([MODEL, RECORD, *[PAGE] * self.page, *[f"{MODEL}.data"] * self.external])


def command(folder: Path, rank: int, shape: Shape, *, data: bool = False) -> None:
    """Replace the outputs in ``folder``; ``rank`` tells one generation from the next.

    Models hold the command that made them, so names are relative: of the same rank, all are the same.
    """
    save.INLINE_LIMIT = 0 if shape.external else 1 << 40
    os.chdir(folder)
    out = Path("out")
    rewrite(
        "m.onnx",
        out / MODEL,
        **({"macs": 0.7, "data": "c.npz"} if data else {"rank": rank}),
        measure=Measure(latency=False),
        planning=Planning(jobs=1),
        outputs=Outputs(json=out / RECORD, html=out / PAGE if shape.page else None, force=True),
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


def at_call(owner: Any, name: str, at: int, fault: Callable[[], None]) -> None:
    """Let a fault happen in the place of the ``at``-th call of a function."""
    real, calls = getattr(owner, name), 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            fault()
        return real(*args, **kwargs)

    setattr(owner, name, call)


def full_disk() -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def as_nobody_special() -> None:
    """Let permissions hold for root too: without its capabilities it is a user like others, who owns its files."""
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(version_3, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def inject(kind: str, folder: Path, rng: random.Random, shape: Shape, seconds: float) -> int:
    """Run the command under one fault."""
    if kind == "kill":
        return in_child(lambda: command(folder, 2, shape), rng.random() * 1.2 * seconds)

    def work() -> None:
        if kind == "kill at a change":
            at_call(*rng.choice(CHANGES), rng.randint(1, 3), lambda: os.kill(os.getpid(), signal.SIGKILL))
        elif kind == "function":
            at_call(*rng.choice(FAILING), rng.randint(1, 3), full_disk)
        elif kind == "size":
            size = int(2 ** (rng.random() * 22))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif kind == "read-only folder":
            (folder / "out").chmod(0o555)
            as_nobody_special()
        else:
            (folder / "cache").chmod(0o555)
            as_nobody_special()
        command(folder, 2, shape, data=kind == "read-only cache")

    return in_child(work)


def whole(folder: Path) -> str:
    """Read every output back; give the model's digest."""
    found = digest(load_model(folder / MODEL))
    Record.read(folder / RECORD)
    page = folder / PAGE
    assert not page.exists() or page.read_bytes().rstrip().endswith(b"</html>"), "the page is cut off"
    return found


def listing(folder: Path) -> list[str]:
    """What lies in the folder, digests left out of the names."""
    return sorted(f"{MODEL}.data" if path.suffix == ".data" else path.name for path in folder.iterdir())


def trial(kind: str, seed: int, start: "Start") -> str:
    """Inject one fault; say how it went: ``kind: done``, ``kind: refused``, or what is wrong."""
    rng = random.Random(seed)
    shape = start.shape(seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        shutil.copytree(start.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out*"))
        shutil.copytree(start.outputs(shape), folder / "out")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        out = folder / "out"
        old = {path.name: path.read_bytes() for path in out.iterdir()}
        code = inject(kind, folder, rng, shape, start.seconds[shape])
        out.chmod(0o755)
        left, now = listing(out), {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
        try:
            found = whole(out)
        except Exception as error:
            return f"{kind}: WRONG, an output is broken: {error!r}"
        if code == 2:
            return f"{kind}: WRONG, a traceback"
        if code == 1 and now != old:
            return f"{kind}: WRONG, refused but written"
        if code >= 0 and left != shape.files:
            return f"{kind}: WRONG, left {left}"
        if kind == "read-only cache":
            if code != 0 or any((folder / "cache").iterdir()):
                return f"{kind}: WRONG, code {code}"
        elif found not in start.digests[:2] or (code == 0 and found != start.digests[1]):
            return f"{kind}: WRONG, another model"
        if in_child(lambda: command(folder, 3, shape)) != 0 or whole(out) != start.digests[2]:
            return f"{kind}: WRONG, the next run fails"
        if listing(out) != shape.files:
            return f"{kind}: WRONG, something stays after the next run: {listing(out)}"
        return f"{kind}: { ({0: 'done', 1: 'refused'}.get(code, 'killed')) }"


class Start:
    """What every trial starts from: the model, its outputs of rank 1, and how long the command takes undisturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[Shape, float] = {}
        self.digests: list[str] = []
        (folder / "m.onnx").write_bytes(BASES["classifier"].SerializeToString())
        np.savez(folder / "c.npz", x=np.random.default_rng(0).standard_normal((24, 4, 12, 12)).astype(np.float32))
        for shape in (Shape(external, page) for external in (False, True) for page in (False, True)):
            self._run(3, shape)
            self._run(2, shape)
            self._run(1, shape)
            assert listing(folder / "out") == shape.files
            (folder / "out").rename(self.outputs(shape))
        # With data the command fills the cache, where it may.
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "out").mkdir()
        assert in_child(lambda: command(folder, 1, Shape(False, False), data=True)) == 0
        assert any((folder / "cache").rglob("*.json")), "no cache is used"
        for name in ("out", "cache"):
            shutil.rmtree(folder / name)
        (folder / "cache").mkdir()

    def _run(self, rank: int, shape: Shape) -> None:
        (self.folder / "out").mkdir(exist_ok=True)
        began = time.perf_counter()
        assert in_child(lambda: command(self.folder, rank, shape)) == 0
        self.seconds[shape] = time.perf_counter() - began
        found = whole(self.folder / "out")
        if found not in self.digests:
            self.digests.insert(0, found)
        assert len(self.digests) <= 3

    def shape(self, seed: int) -> Shape:
        """What the command of a seed writes."""
        return Shape(external=seed % 2 == 0, page=seed % 3 == 0)

    def outputs(self, shape: Shape) -> Path:
        """Where the outputs of rank 1 lie."""
        return self.folder / f"out-{int(shape.external)}{int(shape.page)}"


def main() -> int:
    """Inject faults; 1 if any left what it should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="this one alone")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    commit = current_commit()
    prepare()
    importlib.import_module("altair")
    runtime()  # of the page's charts: made once, not in every child
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        began = time.perf_counter()
        start = Start(Path(name))
        kinds = random.Random(given.seed).choices(list(KINDS), list(KINDS.values()), k=given.count)
        ends: Counter[str] = Counter()
        for seed, kind in enumerate(kinds, given.seed):
            if time.perf_counter() - began > 60 * given.minutes:
                break
            end = trial(given.kind or kind, seed, start)
            ends[end] += 1
            if "WRONG" in end:
                print(seed, end, flush=True)
    print(f"{ends.total()} faults")
    for text, count in sorted(ends.items()):
        print(f"{count:6} {text}")
    if given.json is not None:
        found = {"commit": commit, "seed": given.seed, "count": ends.total(), "ends": dict(sorted(ends.items()))}
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any("WRONG" in text for text in ends))


if __name__ == "__main__":
    sys.exit(main())
