"""Is the time of a site alone its time inside a network? Run by hand, on a quiet machine.

    python -m tests.benchmarks.in_context --out reports/in_context.json

Truth is what one more site costs a chain of equal sites (each a Conv and a Relu): the difference of two chains that are
timed interleaved, over the difference of their lengths. Beside it stands what the planner takes: the time of a model of
that one site, less what a model takes that only passes its input and output. A column gives the share of the MAC ratio
that the candidate's speed-up reaches.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper

from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.planning.latency_table import SiteTimes, Workload
from sepconvert.planning.site_timing import Effort, time_interleaved, time_passing, time_ways
from sepconvert.runtime.engines import ON_CPU
from sepconvert.separable.forms import FORMS, cost_of, named
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

SHORT, LONG = 2, 6
EFFORT = Effort(seconds=3.0, fewest_rounds=9, most_rounds=400)
# Channels, side, and a candidate as a plan for twice the speed takes it: VGG's and open_nsfw's sites, and HED's.
CASES = (
    (32, 28, Scheme("pw_dw_pw", 32, "stacked")),
    (64, 14, Scheme("pw_dw_pw", 112, "stacked")),
    (128, 7, Scheme("pw_dw_pw", 224, "stacked")),
    (32, 56, Scheme("pw_dw_pw", 48, "stacked")),
    (64, 28, Scheme("pw_dw_pw", 64, "stacked")),
    (128, 14, Scheme("pw_dw_pw", 176, "stacked")),
    (256, 7, Scheme("pw_dw_pw", 480, "stacked")),
    (128, 14, Scheme("spatial", 96, "stacked")),
    (128, 14, Scheme("dw_pw", 2, "branches")),
    (256, 40, Scheme("pw_dw_pw", 304, "stacked")),
)


@dataclass(frozen=True)
class Row:
    """Times in ms of one dense site and one candidate, in a chain, alone, and as the planner takes them."""

    channels: int
    side: int
    form: str
    rank: int
    mac_ratio: float
    chain: tuple[float, float]
    alone: tuple[float, float]
    planned: tuple[float, float]

    def shares(self) -> tuple[float, float, float]:
        return tuple(dense / new / self.mac_ratio for dense, new in (self.chain, self.alone, self.planned))


def chain(channels: int, side: int, length: int) -> LoadedModel:
    rng = np.random.default_rng(0)
    kernels = rng.standard_normal((length, channels, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
    nodes, weights, value = [], [], "x"
    for index, kernel in enumerate(kernels):
        weights.append(onnx.numpy_helper.from_array(kernel.astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    shape = [1, channels, side, side]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", value))
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return load_bytes(model.SerializeToString())


def rewritten(model: LoadedModel, way: Scheme) -> LoadedModel:
    rng = np.random.default_rng(1)
    sites = survey(model, infer_shapes(model)).allowing(named("auto"), [CONV]).sites
    drawn = [
        Replacement(s, FORMS[way.form].draw(s.geometry, way.rank, rng).astype(np.float32), way.lowering) for s in sites
    ]
    return rewrite_model(model, drawn).model


def measure(channels: int, side: int, way: Scheme) -> Row:
    feeds = {"x": np.random.default_rng(2).standard_normal((1, channels, side, side), np.float32)}
    short, long = chain(channels, side, SHORT), chain(channels, side, LONG)
    one = chain(channels, side, 1)
    models = [short, long, rewritten(short, way), rewritten(long, way), one, rewritten(one, way)]
    loaded = [ON_CPU.load(model_bytes(model), feeds) for model in models]
    times = [median(ms) for ms in time_interleaved(loaded, EFFORT)]
    dense, new = ((times[i + 1] - times[i]) / (LONG - SHORT) for i in (0, 2))
    geometry = ConvGeometry(channels, channels, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).at((side, side))
    workload, effort = Workload(geometry, following="Relu"), Effort(1.0, 9, 200)
    pairs = time_ways(workload, [way], ON_CPU, np.random.default_rng(3), effort=effort)
    passing = time_passing(workload, ON_CPU, np.random.default_rng(4), effort=effort)
    planned = SiteTimes(workload, pairs, {way: "measured"}, passing)
    ratio = geometry.dense_cost.macs / cost_of(way.form, geometry, way.rank).macs
    alone = times[4], times[5]
    return Row(channels, side, way.form, way.rank, ratio, (dense, new), alone, (planned.dense_ms, planned.ms(way)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    print(f"{'site':>10} {'candidate':>14} {'in a chain, ms':>17} {'alone':>17} {'as planned':>17}  of the MAC ratio")
    for channels, side, way in CASES:
        row = measure(channels, side, way)
        rows.append(row)
        pairs = " ".join(f"{dense:8.4f} {new:8.4f}" for dense, new in (row.chain, row.alone, row.planned))
        shares = " ".join(f"{share:.2f}" for share in row.shares())
        print(f"{channels:>4}, {side:>2}x{side:<2} {way.form:>9} {way.rank:>4} {pairs}  {shares}", flush=True)
    for name, which in (("in a chain", 0), ("alone", 1), ("as planned", 2)):
        print(f"median share of the MAC ratio, {name}: {median(row.shares()[which] for row in rows):.2f}")
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
