"""Do depth multipliers that differ between channels ("GDWS") beat one multiplier for all, at equal latency?

    python -m tests.benchmarks.gdws --json reports/gdws.json             convert and evaluate
    python -m tests.benchmarks.gdws --json reports/gdws.json --time      then time; let nothing else compute meanwhile

At equal MACs the largest singular values of a whole layer (Dbouk & Shanbhag, NeurIPS 2021) lose no more of the weights
than as many of every channel. But runtimes know no grouped convolution with groups of different sizes, so the layer
must be written in other ways:

============  ======  ==============================================================================================
way           order   nodes
============  ======  ==============================================================================================
``uniform``   both    r × (depthwise, pointwise) or the reverse, summed: Network Decoupling
``gather``    dw-pw   Gather that repeats channels, one depthwise Conv, one pointwise Conv
``levels``    dw-pw   per level j: Gather of the channels with more than j components, depthwise, pointwise; summed
``levels``    pw-dw   per level j: pointwise, depthwise, then Pad and Gather to put its outputs in place; summed
============  ======  ==============================================================================================

``levels`` takes a multiple of 8 channels at each level, because vector units do. All are data-free and cost the MACs of
``uniform`` at multiplier ``rank``, per layer, within one component (``levels``: eight).
"""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from sepconvert.runtime.environment import runtime_distributions
from sepconvert.runtime.timing import Length, time_pair
from sepconvert.separable.geometry import ConvGeometry
from tests.benchmarks import decompose
from tests.benchmarks.cells import measure_cell
from tests.benchmarks.decompose import Array, Replacement, Step
from tests.benchmarks.emit import rewritten, sites
from tests.benchmarks.fetch import Unavailable, default_cache
from tests.benchmarks.models import CASES, Case, open_case

RANKS = (1, 2, 3)
LEVEL_WIDTH = 8
TIMED = Length(3.0)

Way = Callable[[Array, ConvGeometry, float], Replacement | None]


@dataclass(frozen=True)
class Row:
    """One converted network: ``sites_share`` and ``error``/``top1`` as in ``cells.Cell``; latency in ms, one thread."""

    case: str
    order: str
    way: str
    rank: int
    sites_share: float
    error: float
    top1: float | None
    base_top1: float | None
    latency_ms: float | None = None
    base_latency_ms: float | None = None
    speedup: float | None = None
    speedup_ci95: list[float] | None = None
    stable: bool | None = None


def levels_dw_pw(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """Depthwise first: the largest singular values of all input channels' slices, written level by level."""
    outputs, channels, taps = weight.shape[0], weight.shape[1], geometry.taps
    per_component = (taps + outputs) * decompose.positions(geometry.out_spatial)
    slices = weight.reshape(outputs, channels, taps).swapaxes(0, 1)
    left, values, right, chosen = _levels(slices, int(budget // per_component))
    kernel, chains = np.zeros((channels, outputs, taps)), []
    for j, places in enumerate(chosen):
        mixing = left[places, :, j] * values[places, j, None]  # (n, M)
        filters = right[places, j]  # (n, K)
        kernel[places] += mixing[:, :, None] * filters[:, None, :]
        gather = None if len(places) == channels else places
        depthwise = decompose.taps_step(filters.reshape(-1, 1, *geometry.kernel), geometry, len(places), gather)
        chains.append((depthwise, Step(mixing.T[:, :, None, None])))
    count = sum(map(len, chosen))
    name = "+".join(str(len(places)) for places in chosen)
    return Replacement(tuple(chains), kernel.swapaxes(0, 1).reshape(weight.shape), name, count * per_component)


def levels_pw_dw(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """Pointwise first: the largest singular values of all output channels' slices, written level by level."""
    outputs, channels, taps = weight.shape[0], weight.shape[1], geometry.taps
    before, after = decompose.positions(geometry.in_spatial), decompose.positions(geometry.out_spatial)
    per_component = channels * before + taps * after
    left, values, right, chosen = _levels(weight.reshape(outputs, channels, taps), int(budget // per_component))
    kernel, chains = np.zeros((outputs, channels, taps)), []
    for j, places in enumerate(chosen):
        mixing = left[places, :, j] * values[places, j, None]  # (n, C)
        filters = right[places, j]  # (n, K)
        kernel[places] += mixing[:, :, None] * filters[:, None, :]
        depthwise = decompose.taps_step(filters.reshape(-1, 1, *geometry.kernel), geometry, len(places))
        if len(places) < outputs:
            back = np.full(outputs, len(places), np.int64)
            back[places] = np.arange(len(places))
            depthwise = replace(depthwise, scatter=back)
        chains.append((Step(mixing[:, :, None, None]), depthwise))
    count = sum(map(len, chosen))
    name = "+".join(str(len(places)) for places in chosen)
    return Replacement(tuple(chains), kernel.reshape(weight.shape), name, count * per_component)


def _levels(slices: Array, count: int) -> tuple[Array, Array, Array, list[np.ndarray]]:
    """The SVD of every slice, and per level j which slices keep their j-th component; level 0 keeps all of them."""
    left, values, right = np.linalg.svd(slices, full_matrices=False)
    squares = values**2
    squares[:, 0] = np.inf
    keep = np.zeros(squares.shape, bool)
    keep.flat[np.argsort(-squares, axis=None, kind="stable")[: max(count, len(squares))]] = True
    chosen, left_over = [np.arange(len(squares))], count - len(squares)
    for j in range(1, squares.shape[1]):
        width = min(len(squares), round(keep[:, j].sum() / LEVEL_WIDTH) * LEVEL_WIDTH, left_over)
        width -= width % LEVEL_WIDTH if width < len(squares) else 0
        if width <= 0:
            break
        chosen.append(np.sort(np.argsort(-squares[:, j], kind="stable")[:width]))
        left_over -= width
    return left, values, right, chosen


WAYS: dict[tuple[str, str], Way] = {
    ("dw-pw", "uniform"): decompose.network_decoupling_dw_pw,
    ("dw-pw", "gather"): decompose.gdws,
    ("dw-pw", "levels"): levels_dw_pw,
    ("pw-dw", "uniform"): decompose.network_decoupling_pw_dw,
    ("pw-dw", "levels"): levels_pw_dw,
}


def convert(case: Case, order: str, way: str, rank: int, path: Path) -> Row:
    """Write the network with every site at the MACs of multiplier ``rank``, where that is below break-even."""
    model = onnx.load(case.model)
    replacements = {}
    for output, (weight, geometry) in sites(model, {case.input: case.shape}).items():
        before, after = (decompose.positions(size) for size in (geometry.in_spatial, geometry.out_spatial))
        outputs, channels, taps = len(weight), geometry.in_channels, geometry.taps
        one = channels * (taps + outputs) * after if order == "dw-pw" else outputs * (channels * before + taps * after)
        found = WAYS[order, way](weight, geometry, rank * one) if rank * one < geometry.dense_cost.macs else None
        if found is not None:
            replacements[output] = found
    onnx.save(rewritten(model, replacements), path)
    cell = measure_cell(case, f"{order} {way}", 1.0, path, 0.0, case.data)
    return Row(case.name, order, way, rank, cell.sites_share, cell.error, cell.top1, cell.base_top1)


def timed(row: Row, case: Case, path: Path) -> Row:
    """Time one converted network against its original: one thread, in turns, one sample at a time."""
    with np.load(case.test) as data:
        feeds = {case.input: data[case.input][:1].astype(np.float32)}
    found = time_pair(case.model, path, feeds, rng=np.random.default_rng(0), length=TIMED)
    assert found.after is not None
    return replace(
        row,
        latency_ms=found.after.median_ms,
        base_latency_ms=found.before.median_ms,
        speedup=found.speedup,
        speedup_ci95=found.speedup_ci95,
        stable=found.stable,
    )


def table(rows: Iterable[Row]) -> str:
    """Return the rows as text."""
    lines = []
    for row in rows:
        quality = f"error {row.error:8.3g}" if row.top1 is None else f"top-1 {row.top1:5.2f} of {row.base_top1:.2f}"
        speed = "" if row.speedup is None else f", {row.speedup:.2f}×{'' if row.stable else ' (unstable)'}"
        lines.append(
            f"{row.case:15} {row.order} {row.way:8} r={row.rank}: MACs {row.sites_share:.3f}, {quality}{speed}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=["fashion_resnet", "fashion_vgg", "open_nsfw"]
    )
    parser.add_argument("--json", type=Path, required=True, help="rows are added to this file")
    parser.add_argument("--time", action="store_true", help="time what was converted before")
    given = parser.parse_args()
    folder = default_cache() / "gdws"
    folder.mkdir(parents=True, exist_ok=True)
    known = json.loads(given.json.read_text(encoding="utf-8"))["rows"] if given.json.exists() else []
    rows = {(row["case"], row["order"], row["way"], row["rank"]): Row(**row) for row in known}
    for name in given.cases:
        try:
            case = open_case(name)
        except Unavailable as error:
            print(f"{name}: skipped ({error})")
            continue
        for order, way in WAYS:
            for rank in RANKS:
                path, key = folder / f"{name}.{order}.{way}.{rank}.onnx", (name, order, way, rank)
                rows[key] = timed(rows[key], case, path) if given.time else convert(case, order, way, rank, path)
                print(table([rows[key]]), flush=True)
    record = {"runtime": runtime_distributions(), "threads": 1, "rows": [asdict(row) for row in rows.values()]}
    given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
