"""Compare the peers with this project, side by side on the same models, data and counting.

    python -m tests.benchmarks.peers                     everything that is not done yet, then the tables
    python -m tests.benchmarks.peers --quick             one small model, one share, no fitting: a smoke test
    python -m tests.benchmarks.peers --cases hed --methods 'ours_*' --redo
    python -m tests.benchmarks.peers --tables            only what is already measured

Every cell is stored as soon as it is done, so that a run can be stopped and resumed, or done in parts. Conversions and
their quality come first; latency is measured afterwards, when nothing else computes.
"""

import argparse
import fnmatch
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sepconvert.runtime.timing import Length, time_pair
from tests.benchmarks.cells import Cell, Store, measure_cell
from tests.benchmarks.fetch import Unavailable, default_cache
from tests.benchmarks.methods import METHODS
from tests.benchmarks.models import CASES, open_case
from tests.benchmarks.published import publish, table

SHARES = (1 / 2, 1 / 3, 1 / 4)
TIMED = Length(2.0)


def convert_all(
    store: Store, cases: Iterable[str], methods: Iterable[str], shares: Iterable[float], redo: bool
) -> None:
    """Convert and evaluate what is not in the store yet; say why where a case or a method is not to be had."""
    for name in cases:
        try:
            case = open_case(name)
        except Unavailable as error:
            print(f"{name}: skipped ({error})", flush=True)
            continue
        for method in methods:
            for share in shares:
                if store.read(name, method, share) is None or redo:
                    path = store.model_path(name, method, share)
                    path.unlink(missing_ok=True)
                    seconds = METHODS[method].convert(case, share, path)
                    cell = measure_cell(case, method, share, path, seconds, case.data)
                    store.write(cell)
                    print(_line(cell), flush=True)


def time_all(store: Store, cases: Iterable[str], methods: Iterable[str], shares: Iterable[float], redo: bool) -> None:
    """Time every converted model against its original: one thread, in turns, one sample at a time."""
    for name in cases:
        for method in methods:
            for share in shares:
                cell = store.read(name, method, share)
                if cell is None or (cell.speedup is not None and not redo):
                    continue
                case = open_case(name)
                with np.load(case.test) as data:
                    feeds = {case.input: data[case.input][:1].astype(np.float32)}
                path = store.model_path(name, method, share)
                timed = time_pair(case.model, path, feeds, rng=np.random.default_rng(0), length=TIMED)
                low, high = timed.speedup_ci95 or (None, None)
                print(f"{name:15} {method:28} {share:.2f}: {timed.speedup:.2f}× [{low:.2f}, {high:.2f}]", flush=True)
                after = None if timed.after is None else timed.after.median_ms
                store.write(
                    replace(
                        cell,
                        speedup=timed.speedup,
                        speedup_ci95=timed.speedup_ci95,
                        latency_ms=after,
                        base_latency_ms=timed.before.median_ms,
                        stable=timed.stable,
                    )
                )


def _line(cell: Cell) -> str:
    top1 = "" if cell.top1 is None else f"  top-1 {cell.top1:5.2f} of {cell.base_top1:.2f}"
    return (
        f"{cell.case:15} {cell.method:28} {cell.share:.2f}: sites {cell.sites_share:.3f}, "
        f"model {cell.model_share:.3f}, {cell.rewritten}/{cell.sites} rewritten, error {cell.error:.4g}{top1}, "
        f"{cell.seconds or 0:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--methods", default="*", help="a glob over " + ", ".join(METHODS))
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    parser.add_argument("--store", type=Path, default=default_cache() / "peers")
    parser.add_argument("--redo", action="store_true", help="measure again what is stored")
    parser.add_argument("--time", action="store_true", help="measure latency too; let nothing else compute meanwhile")
    parser.add_argument("--quick", action="store_true", help="the small ResNet at 1/3, data-free methods only")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="write a record and a page of what is stored")
    parser.add_argument("--tables", action="store_true", help="measure nothing, print the tables")
    given = parser.parse_args()
    cases, shares, methods = given.cases, given.shares, fnmatch.filter(METHODS, given.methods)
    if given.quick:
        cases, shares = ["fashion_resnet"], [1 / 3]
        methods = [name for name in methods if not METHODS[name].fitted]
    store = Store(given.store)
    if not given.tables:
        convert_all(store, cases, methods, shares, given.redo)
        if given.time:
            time_all(store, cases, methods, shares, given.redo)
    if given.publish is not None:
        publish(store, cases, shares, given.publish)
    for case in cases:
        print("\n" + table(store, case, shares))


if __name__ == "__main__":
    main()
