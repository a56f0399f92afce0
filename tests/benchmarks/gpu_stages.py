"""The stages of ``tests.benchmarks.gpu``: each measures one thing and returns what goes into the record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from sepconvert.errors import NothingToDoError
from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.latency_table import Workload, table_to_json
from sepconvert.planning.site_timing import ANY, Effort, time_ways
from sepconvert.record import Record
from sepconvert.runtime.engines import Engine
from sepconvert.runtime.timing import Length, time_pair
from sepconvert.separable.forms import FORMS, cli_name, cost_of, lowerings, rank_for_share
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows import FineTune, Measure, Planning, Reading, rewrite
from sepconvert.workflows.opened import Case, open_with_data, select_sites
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source

SAMPLES = Path(__file__).parent.parent.parent / "sample_models"
MODEL, DATA, TEST = SAMPLES / "fashion_vgg.onnx", "fashion_calibration.npz", "fashion_test.npz"
INPUT, IMAGE = "image", (1, 28, 28)
HALF = 0.5


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    ``layers``: channels in, channels out, kernel, side of the map. The first of ``speedups`` that can be had is planned
    for. ``images``: at most so many of each data file.
    """

    layers: Sequence[tuple[int, int, int, int]] = (
        (64, 64, 3, 56),
        (128, 128, 3, 28),
        (256, 256, 3, 14),
        (64, 64, 7, 28),
    )
    batches: Sequence[int] = (1, 64)
    dtypes: Sequence[str] = ("float32", "float16")
    planned_batch: int = 256
    form: str = "any"
    speedups: Sequence[float] = (2.5, 2.0, 1.6, 1.3, 1.15, 1.05)
    images: int = 3200
    steps: int = 200
    include: Sequence[str] = ()
    seconds: float = 3.0
    effort: Effort = field(default_factory=Effort)


QUICK = Extent(
    layers=((16, 16, 3, 8),),
    batches=(1,),
    planned_batch=2,
    form="dw-pw",
    speedups=(1.02,),
    images=64,
    steps=2,
    include=("/conv2_2/Conv",),
    seconds=0.1,
    effort=Effort(0.0, 2, 2),
)


@dataclass(frozen=True)
class Bench:
    """The engines under test, the first of them PyTorch's, how much to do, and a folder that goes again."""

    engines: Sequence[Engine]
    extent: Extent
    folder: Path

    @property
    def device(self) -> str:
        return self.engines[0].name

    def data(self, name: str) -> Path:
        """One of the sample models' data files, as far as it is used."""
        path = self.folder / name
        if not path.exists():
            with np.load(SAMPLES / name) as arrays:
                np.savez(path, allow_pickle=False, **{key: arrays[key][: self.extent.images] for key in arrays})
        return path


def providers(bench: Bench) -> Any:
    """Where the operators of a whole network ran."""
    feeds = _feeds(1)
    return [
        {"device": e.name, "provider": e.provider, "runtime": e.runtime, "hardware": e.hardware}
        | asdict(e.prove(MODEL, feeds))
        for e in bench.engines
    ]


def layers(bench: Bench) -> Any:
    """The dense convolution against every form and lowering at half of its multiply-adds."""
    rows = []
    for inputs, outputs, kernel, side in bench.extent.layers:
        pads = (kernel // 2,) * 4
        geometry = ConvGeometry(inputs, outputs, (kernel, kernel), (1, 1), (1, 1), pads).at((side, side))
        ways = [
            Scheme(form, rank, lowering)
            for form in FORMS
            if rank_ladder(form, geometry)
            for rank in [max(1, rank_for_share(form, geometry, HALF))]
            for lowering in lowerings(form, rank)
        ]
        for batch in bench.extent.batches:
            for dtype in bench.extent.dtypes:
                workload = Workload(geometry, dtype, batch, "Relu")
                rows += [row for engine in bench.engines for row in _timed_ways(bench, engine, workload, ways)]
    return rows


def _timed_ways(bench: Bench, engine: Engine, workload: Workload, ways: Sequence[Scheme]) -> list[dict[str, Any]]:
    geometry = workload.geometry
    found = time_ways(workload, ways, engine, np.random.default_rng(0), ANY, bench.extent.effort)
    dense = geometry.dense_cost.macs
    return [
        {
            "device": engine.name,
            "layer": [geometry.in_channels, geometry.out_channels, geometry.kernel[0], *(geometry.in_spatial or ())],
            "batch": workload.batch,
            "dtype": workload.dtype,
            "form": cli_name(way.form),
            "rank": way.rank,
            "lowering": way.lowering,
            "macs_ratio": (dense or 0) / (cost_of(way.form, geometry, way.rank).macs or 1),
            "dense_ms": pair.dense_ms,
            "ms": pair.ms,
            "speedup": pair.dense_ms / pair.ms,
        }
        for way, pair in found.items()
    ]


def plan(bench: Bench) -> Any:
    """A table of times for planning, and the highest of some speed-ups that can be had with it."""
    planner = _planner(bench)
    with one_blas_thread():
        choices = planner.choices_by_latency
        table = bench.folder / "table.json"
        table.write_text(table_to_json(planner.table()), encoding="utf-8")
        timed = {"sites": len(choices.sites), "original_ms": planner.original_ms}
        timed["times"] = sum(len(options) for options in choices.options)
        refused = {}
        for speedup in bench.extent.speedups:
            try:
                found = planner.by_speedup(speedup)
            except NothingToDoError as error:
                refused[f"{speedup:g}"] = str(error)
                continue
            return timed | {"asked": speedup, "predicted": dict(found.predicted), "refused": refused}
    return timed | {"asked": None, "refused": refused}


def planned_rewrite(bench: Bench, planned: Mapping[str, Any]) -> Any:
    """A rewrite by that table; by half of the multiply-adds where no speed-up could be had."""
    asked = planned.get("asked")
    record = rewrite(
        MODEL,
        bench.folder / "planned.onnx",
        data=bench.data(DATA),
        test_data=bench.data(TEST),
        form=bench.extent.form,
        speedup=asked,
        macs=None if asked else HALF,
        reading=Reading(input_shapes={INPUT: (bench.extent.planned_batch, *IMAGE)}),
        planning=Planning(latency_table=bench.folder / "table.json", include=bench.extent.include, allow_loss=True),
        measure=Measure(devices=[engine.name for engine in bench.engines]),
        progress=False,
    ).record
    return {"asked": asked, **_summary(record)}


def whole_model(bench: Bench) -> Any:
    """The original against the planned rewrite, for one image and for many."""
    after = bench.folder / "planned.onnx"
    rows = []
    for engine in bench.engines:
        for batch in (1, bench.extent.planned_batch):
            rng = np.random.default_rng(0)
            found = time_pair(MODEL, after, _feeds(batch), rng=rng, engine=engine, length=Length(bench.extent.seconds))
            assert found.after is not None
            row = {"device": engine.name, "batch": batch, "verified": found.provider_verified}
            row |= {"before_ms": found.before.median_ms, "after_ms": found.after.median_ms}
            rows.append(row | {"speedup": found.speedup, "ci95": found.speedup_ci95, "stable": found.stable})
    return rows


def fine_tune(bench: Bench) -> Any:
    """The same training on the device, in bfloat16 where it is a GPU, and on the CPU."""
    rows = []
    for device in dict.fromkeys([bench.device, "torch:cpu"]):
        start = perf_counter()
        record = rewrite(
            MODEL,
            bench.folder / f"tuned_{device.removeprefix('torch:')}.onnx",
            data=bench.data(DATA),
            test_data=bench.data(TEST),
            form="dw-pw",
            rank=1,
            fine_tune=FineTune(steps=bench.extent.steps),
            planning=Planning(include=bench.extent.include, allow_loss=True),
            measure=Measure(latency=False, devices=[device]),
            progress=False,
        ).record
        tuned = record.fine_tune or {}
        row = {"device": device, "bfloat16": device == "torch:cuda" and torch.cuda.is_bf16_supported()}
        row |= {key: tuned.get(key) for key in ("steps", "divergence_before", "divergence_after", "seconds")}
        rows.append(row | {"seconds_in_all": perf_counter() - start, **_summary(record)})
    return rows


def _summary(record: Record) -> dict[str, Any]:
    fidelity = record.fidelity
    assert fidelity is not None
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    return {
        "rewritten": [[site.name, site.form, site.rank, site.lowering] for site in rewritten],
        "error": fidelity.outputs[0].decisive_error,
        "top1": [fidelity.top1_before, fidelity.top1_after],
        "latency": [
            {"device": t.device, "speedup": t.speedup, "ci95": t.speedup_ci95, "verified": t.provider_verified}
            for t in record.latency
        ],
    }


def _planner(bench: Bench) -> Planner:
    request = Request(
        model=MODEL,
        data=bench.data(DATA),
        form=bench.extent.form,
        reading=Reading(input_shapes={INPUT: (bench.extent.planned_batch, *IMAGE)}),
        measure=Measure(devices=[bench.device]),
    )
    opened, (data,) = open_with_data(find_source(MODEL), request, [request.data])
    chosen, _ = select_sites(opened.found.sites, bench.extent.include, ())
    return Planner(Case(request, opened, chosen, data, data))


def _feeds(batch: int) -> dict[str, Any]:
    return {INPUT: np.random.default_rng(1).standard_normal((batch, *IMAGE), dtype=np.float32)}
