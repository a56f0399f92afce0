"""How the time of a conversion grows with the depth of a network.

    python -m tests.benchmarks.depth --json reports/depth.json
    python -m tests.benchmarks.depth --macs 0.4                  a planned split of the budget instead of equal shares

Three kinds of networks (a chain, a U-Net, a chain with side outputs) at depths d, 2d and 4d, with random weights and
smooth random images, are converted by the public API with latency off. What counts is CPU time of this process, the
least of ``--repeat`` runs, so that other work on the machine hardly matters; beside it stand seconds by stage, which
are of the clock, and counts of the work given to onnxruntime. Doubling the depth should at most take 2.3 times as long.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from sepconvert.graph.save import model_bytes
from sepconvert.runtime.environment import describe_environment
from sepconvert.workflows import rewrite
from sepconvert.workflows.options import Measure, Planning
from tests.benchmarks.deep_nets import NETWORKS
from tests.fitting.nets import smooth_images
from tests.workflows.work import counted_work

LIMIT = 2.3
SHARE = 1 / 3


@dataclass(frozen=True)
class Row:
    """One network, and ``cpu_seconds`` of every conversion of it.

    ``seconds`` by stage, of the clock, are those of the last conversion; ``work`` is what onnxruntime did in any.
    """

    network: str
    depth: int
    form: str
    budget: dict[str, float]
    nodes: int
    sites: int
    rewritten: int
    macs: int
    cpu_seconds: tuple[float, ...]
    seconds: dict[str, float]
    work: dict[str, int]

    @property
    def least(self) -> float:
        """CPU seconds with the least disturbance."""
        return min(self.cpu_seconds)


def convert(network: str, depth: int, given: argparse.Namespace, folder: Path) -> Row:
    """Make a network and convert it once."""
    model = NETWORKS[network](depth, given.width, given.size)
    path, data = folder / "network.onnx", folder / "images.npz"
    path.write_bytes(model_bytes(model))
    np.savez(data, image=smooth_images(given.images, given.width, given.size))
    with counted_work() as work:
        start = time.process_time()
        record = rewrite(
            path,
            form=given.form,
            rank=SHARE if given.macs is None else None,
            macs=given.macs,
            data=str(data),
            measure=Measure(latency=False),
            planning=Planning(cache=False),
        ).record
        spent = time.process_time() - start
    assert record.totals.before.macs is not None
    return Row(
        network=network,
        depth=depth,
        form=given.form,
        budget={"rank": SHARE} if given.macs is None else {"macs": given.macs},
        nodes=len(list(model.ir.graph)),
        sites=len(record.sites),
        rewritten=sum(site.status == "rewritten" for site in record.sites),
        macs=record.totals.before.macs,
        cpu_seconds=(spent,),
        seconds=record.seconds,
        work=asdict(work),
    )


def measure(given: argparse.Namespace, folder: Path) -> list[Row]:
    """Convert every network ``given.repeat`` times, in turns, so that a busy minute hits all of them."""
    convert("u-net", 5, argparse.Namespace(**vars(given) | {"width": 8, "size": 16, "images": 8}), folder)
    found: dict[tuple[str, int], Row] = {}
    for _ in range(given.repeat):
        for network, depth in product(given.networks, given.depths):
            row, earlier = convert(network, depth, given, folder), found.get((network, depth))
            if earlier is not None:
                row = replace(row, cpu_seconds=(*earlier.cpu_seconds, *row.cpu_seconds))
            found[network, depth] = row
            print(f"{network} {depth}: {row.cpu_seconds[-1]:.1f} s", flush=True)
    return list(found.values())


def growth(rows: Sequence[Row]) -> list[tuple[Row, Row | None]]:
    """Pair every row with that of the same network at half the depth, if there is one."""
    known = {(row.network, row.depth): row for row in rows}
    return [(row, known.get((row.network, row.depth // 2))) for row in rows]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, each figure with its ratio to that at half the depth in brackets."""
    names = ("GMACs", "CPU s", "sessions", "MB opened", "nodes run")
    lines = [f"{'network':13}{'rewritten':>8}" + "".join(f"{name:>16}" for name in names) + "   stages"]
    for row, half in growth(rows):
        figures = [_with_ratio(row, half, name) for name in ("macs", "least", *row.work)]
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in row.seconds.items())
        lines.append(f"{row.network:13}{row.rewritten:3} of {row.sites:2}{''.join(figures)}   {stages}")
    return "\n".join(lines)


def _with_ratio(row: Row, half: Row | None, name: str) -> str:
    scale, digits = {"macs": (1e-9, 3), "least": (1.0, 1), "opened_bytes": (1e-6, 2)}.get(name, (1.0, 0))
    ratio = "" if half is None else f"({_figure(row, name) / _figure(half, name):.2f}×)"
    return f"{_figure(row, name) * scale:8,.{digits}f} {ratio:>7}"


def _figure(row: Row, name: str) -> float:
    return float(row.work[name] if name in row.work else getattr(row, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--depths", nargs="+", type=int, default=[10, 20, 40])
    parser.add_argument("--width", type=int, default=24, help="channels")
    parser.add_argument("--size", type=int, default=24, help="pixels of a side")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--form", default="any")
    parser.add_argument(
        "--macs", type=float, help="share of the model's MACs, split by the planner; default: a third of each site's"
    )
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(given, Path(folder))
    worst = max((row.least / half.least for row, half in growth(rows) if half is not None), default=0.0)
    print(f"\n{table(rows)}\n\nDoubling the depth takes at most {worst:.2f} times as long (limit {LIMIT}).")
    if given.json is not None:
        record = {
            "command": ["python", "-m", "tests.benchmarks.depth", *sys.argv[1:]],
            "environment": asdict(describe_environment(1)),
            "settings": {"width": given.width, "size": given.size, "images": given.images},
            "limit": LIMIT,
            "worst": worst,
            "rows": [asdict(row) for row in rows],
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
