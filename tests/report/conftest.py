"""Realistic records made in memory, for tests of the page."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from sepconvert.record import (
    Environment,
    Fidelity,
    GraphNode,
    InputInfo,
    Latency,
    LayerRecord,
    LayersRecord,
    ModelFile,
    NetworkGraph,
    OutputFidelity,
    Plan,
    RankError,
    Record,
    SelfCheck,
    SiteRecord,
    Skip,
    Sweep,
    SweepPoint,
    Timing,
    Tool,
    Totals,
    TotalsPair,
    Uncounted,
)
from sepconvert.workflows.describe import describe_forms

ENVIRONMENT = Environment(
    python="3.12.4",
    platform="Linux-6.1-x86_64",
    cpu="Example CPU @ 2.60GHz",
    cores=8,
    threads=1,
    devices=["cpu"],
    versions={"numpy": "2.1.0", "onnx": "1.18.0", "onnxruntime": "1.22.0"},
    time="2030-01-02T03:04:05+00:00",
)


def site(index: int, channels: int, side: int, rewritten: bool = True, **changes: object) -> SiteRecord:
    """A 3×3 convolution with as many outputs as inputs, rewritten at rank 2 unless told otherwise."""
    rng = np.random.default_rng(index)
    params = channels * channels * 9
    params_after = 2 * channels * (9 + channels)
    floor = float(rng.uniform(0.002, 0.02))
    curve = [
        RankError(form, rank, floor * scale * math.exp(-0.55 * (rank - 2)))
        for form, scale in (("dw-pw", 1.0), ("pw-dw", 1.2))
        for rank in range(1, 9)
    ]
    record = SiteRecord(
        name=f"block{index}/conv",
        output=f"block{index}/conv_out",
        in_channels=channels,
        out_channels=channels,
        kernel=[3, 3],
        stride=[1, 1],
        dilation=[1, 1],
        pads=[1, 1, 1, 1],
        groups=1,
        in_spatial=[side, side],
        out_spatial=[side, side],
        params=params,
        macs=params * side * side,
        status="rewritten" if rewritten else "kept",
        reason=None if rewritten else "No candidate is faster than the dense convolution on this device.",
        latency_ms=float(params * side * side * 4e-8),
        spectrum=[float(v) for v in np.exp(-np.linspace(0, 4, 24))],
        error_by_rank=curve,
    )
    if rewritten:
        record = replace(
            record,
            form="dw-pw",
            rank=2,
            lowering="branches",
            error_weights=floor * 3,
            error_calibration=floor * 0.8,
            error_heldout=floor,
            params_after=params_after,
            macs_after=params_after * side * side,
            layers=two_branches(channels),
            latency_ms_after=float(params * side * side * 1.6e-8),
        )
    return replace(record, **changes)  # type: ignore[arg-type]


def two_branches(channels: int) -> LayersRecord:
    """What ``dw-pw`` of rank 2 is."""
    branch = [
        LayerRecord("depthwise", "depthwise", channels, channels, [3, 3], channels),
        LayerRecord("pointwise", "pointwise", channels, channels, [1, 1], 1),
    ]
    return LayersRecord(branch, 2, "add")


def pointwise(index: int) -> Skip:
    return Skip(
        f"block{index}/project",
        "Conv",
        "pointwise",
        "The kernel is 1×1: there are no taps.",
        f"block{index}/project_out",
    )


def timing(median: float, seed: int) -> Timing:
    samples = np.random.default_rng(seed).lognormal(math.log(median), 0.02, 60)
    low, high = np.percentile(samples, [10, 90])
    return Timing(median, float(low), float(high), [float(v) for v in samples])


def latency(before: float = 24.0, after: float | None = 11.4, device: str = "cpu", stable: bool = True) -> Latency:
    speedup = None if after is None else before / after
    return Latency(
        device=device,
        provider="CPUExecutionProvider",
        provider_verified=True,
        threads=1,
        input_shapes={"input": [1, 3, 224, 224]},
        before=timing(before, 1),
        after=None if after is None else timing(after, 2),
        speedup=speedup,
        speedup_ci95=None if speedup is None else [speedup * 0.97, speedup * 1.03],
        stable=stable,
        warnings=[] if stable else ["The spread of the runs is 31 % of the median."],
    )


def totals(sites: list[SiteRecord], after: bool) -> Totals:
    inside = [s.macs_after if after and s.macs_after is not None else s.macs for s in sites]
    params = [s.params_after if after and s.params_after is not None else s.params for s in sites]
    site_macs = sum(m for m in inside if m is not None)
    macs = site_macs + 490_000_000
    return Totals(
        params=sum(params) + 2_100_000,
        macs=macs,
        flops=2 * macs,
        conv_macs=macs - 2_000_000,
        site_macs=site_macs,
        file_bytes=4 * (sum(params) + 2_100_000) + 31_000,
        uncounted=[Uncounted("Shape", 2)],
    )


def chain_graph(sites: list[SiteRecord], skipped: list[Skip]) -> NetworkGraph:
    """Residual blocks: site, pointwise, Add with the block's input."""
    nodes = [GraphNode("input", "input", "input")]
    edges: list[list[int]] = []
    trunk = 0
    for i, found in enumerate(sites):
        nodes.append(GraphNode(found.output, "Conv", found.status))
        edges.append([trunk, len(nodes) - 1])
        if i >= len(skipped):
            trunk = len(nodes) - 1
            continue
        nodes.append(GraphNode(skipped[i].output, "Conv", "skipped"))
        edges.append([len(nodes) - 2, len(nodes) - 1])
        nodes.append(GraphNode(f"block{i}/sum", "Add", "join"))
        edges += [[len(nodes) - 2, len(nodes) - 1], [trunk, len(nodes) - 1]]
        trunk = len(nodes) - 1
    nodes.append(GraphNode("prob", "output", "output"))
    edges.append([trunk, len(nodes) - 1])
    return NetworkGraph(nodes, edges)


def rewrite_record(**changes: object) -> Record:
    """17 sites of which 14 are rewritten, measured in every way."""
    shapes = [(32, 112), (64, 56), (64, 56), (128, 28), (128, 28), (256, 14), (256, 14), (512, 7)]
    sites = [site(i, *shapes[i * len(shapes) // 17], rewritten=i not in (0, 7, 13)) for i in range(17)]
    sites[0] = replace(sites[0], reason="One input channel: nothing to separate.", in_channels=1)
    skipped = [pointwise(i) for i in range(12)]
    skipped.append(
        Skip("head/up", "ConvTranspose", "transposed", "Transposed convolutions are not rewritten.", "head/up_out")
    )
    record = Record(
        forms=describe_forms(),
        command="rewrite",
        environment=ENVIRONMENT,
        source=ModelFile("/models/example.onnx", "a" * 64, 23_900_000),
        output=ModelFile("/models/example.sep.onnx", "b" * 64, 11_200_000),
        inputs=[InputInfo("input", "float32", ["batch", 3, 224, 224], [1, 3, 224, 224])],
        sites=sites,
        skipped=skipped,
        totals=TotalsPair(totals(sites, False), totals(sites, True)),
        tool=Tool("sepconvert", "0.1.0"),
        fidelity=Fidelity(
            outputs=[OutputFidelity("prob", 0.0011, 0.0062, 0.081, 0.99871, 26.3)],
            samples=2000,
            data="test.npz",
            top1_before=0.928,
            top1_after=0.924,
            top1_agreement=0.981,
        ),
        latency=[latency()],
        plan=Plan(
            budget={"speedup": 2.0},
            predicted={"speedup": 1.95, "error": 0.007},
            measured={"speedup": 2.1, "macs_ratio": 0.51},
        ),
        self_check=SelfCheck(3.1e-7, 1.2e-5, 14),
        warnings=["Only 256 calibration inputs were given; 1,024 would make the fit safer."],
        arguments=["rewrite", "example.onnx", "--data", "calibration set.npz", "--speedup", "2"],
        graph=chain_graph(sites, skipped[:12]),
        seconds={"moments": 3.57, "fit": 29.1},
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def analyze_record(**changes: object) -> Record:
    record = rewrite_record()
    sites = [
        replace(
            site(i, 64, 28, rewritten=False),
            status="eligible",
            reason=None,
            best_candidate={"form": "pw-dw-pw", "rank": 48, "macs_ratio": 0.31, "error": 0.012},
        )
        for i in range(6)
    ]
    record = replace(
        record,
        command="analyze",
        arguments=["analyze", "example.onnx"],
        output=None,
        sites=sites,
        totals=TotalsPair(totals(sites, False)),
        fidelity=None,
        latency=[latency(after=None)],
        plan=None,
        self_check=None,
        warnings=[],
        graph=chain_graph(sites, record.skipped[:6]),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def compare_record(**changes: object) -> Record:
    return rewrite_record(
        command="compare", arguments=["compare", "a.onnx", "b.onnx"], plan=None, self_check=None, **changes
    )


def sweep_point(label: str, speedup: float, error: float, **changes: object) -> SweepPoint:
    point = SweepPoint(
        label=label,
        macs=int(1.07e9 / (1.3 * speedup)),
        params=int(5.9e6 / speedup),
        latency_ms=24.0 / speedup,
        speedup=speedup,
        speedup_ci95=[speedup * 0.98, speedup * 1.02],
        error=error,
        stable=True,
        sites_rewritten=14,
        form="any",
        command=f"sepconvert rewrite example.onnx --speedup {label.rstrip('×')}",
    )
    return replace(point, **changes)  # type: ignore[arg-type]


def sweep_record(**changes: object) -> Record:
    points = [
        sweep_point("1.5×", 1.52, 0.0007, on_front=True),
        sweep_point("2×", 2.04, 0.0031, on_front=True),
        sweep_point("3×", 3.07, 0.019, on_front=True),
        sweep_point("2× dw-pw", 1.9, 0.006),
    ]
    baselines = [sweep_point("spatial SVD", 1.8, 0.08), sweep_point("Network Decoupling", 1.6, 0.9)]
    record = analyze_record(command="sweep", sweep=Sweep(points, baselines, "cpu"))
    record = replace(record, arguments=["sweep", "example.onnx", "--data", "test.npz", "--budgets", "1.5,2,3"])
    return replace(record, **changes)  # type: ignore[arg-type]


def dense_record(convolutions: int = 154, block: int = 12) -> Record:
    """A chain of dense blocks: every 3×3 sees all earlier outputs of its block through a Concat."""
    nodes, edges, sites = [GraphNode("input", "input", "input")], [], []
    for i in range(convolutions):
        found = site(i, 16 + 8 * (i % block), 56 // (1 + i // 40), rewritten=i % 9 != 4)
        found = replace(found, name=f"features/denseblock{i // block}/denselayer{i % block}/conv")
        sites.append(found)
        nodes.append(GraphNode(found.output, "Conv", found.status))
        conv = len(nodes) - 1
        if i % block == 0:
            inside = [conv - 1]
            edges.append([conv - 1, conv])
            continue
        nodes[conv] = GraphNode(f"concat{i}", "Concat", "join")
        nodes.append(GraphNode(found.output, "Conv", found.status))
        edges += [[earlier, conv] for earlier in inside] + [[conv, conv + 1]]
        inside.append(conv + 1)
    nodes.append(GraphNode("prob", "output", "output"))
    edges.append([len(nodes) - 2, len(nodes) - 1])
    return rewrite_record(
        sites=sites,
        totals=TotalsPair(totals(sites, False), totals(sites, True)),
        graph=NetworkGraph(nodes, edges),
    )


@dataclass(frozen=True)
class Records:
    """The builders above; each takes changes to make to the record."""

    analyze: Callable[..., Record] = analyze_record
    rewrite: Callable[..., Record] = rewrite_record
    compare: Callable[..., Record] = compare_record
    sweep: Callable[..., Record] = sweep_record
    dense: Callable[..., Record] = dense_record
    site: Callable[..., SiteRecord] = site
    latency: Callable[..., Latency] = latency
    sweep_point: Callable[..., SweepPoint] = sweep_point


@pytest.fixture(scope="session")
def records() -> Records:
    return Records()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, told not to talk to anyone."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine; install it, e.g. apt-get install chromium")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page in the browser, with everything it complained about or asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browse(chromium: Browser) -> Callable[..., object]:
    """Open a file, by default on a desk and in the light; wait until all charts are drawn."""

    @contextmanager
    def open_file(path: Path, width: int = 1440, theme: str = "light", wait: bool = True) -> Iterator[Opened]:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
        opened = Opened(page)
        page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(path.as_uri())
        if wait:
            page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        yield opened
        page.close()

    return open_file
