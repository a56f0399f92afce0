"""What a multiplier, a rank, and the number of calibration inputs cost: uniform ranks of the two sample networks.

    python -m tests.benchmarks.choices [--json reports/choices.json]

Nothing is timed: errors and top-1 are the same on every machine but for rounding. The test images are 3,200 others.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import sepconvert

SAMPLES = Path(__file__).parents[2] / "sample_models"
NETWORKS = ("fashion_resnet", "fashion_vgg")
RANKS = (("dw-pw", (1, 2, 3, 4)), ("pw-dw-pw", (0.5, 0.33, 0.1)))  # multipliers, shares of the MACs
AMOUNTS = (16, 128, 1024)
SHARE = 0.33


@dataclass(frozen=True)
class Row:
    network: str
    form: str
    rank: float
    inputs: int
    site_macs: float
    error: float | None
    top1_before: float | None
    top1: float | None


def asked() -> Iterator[tuple[str, str, float, int]]:
    """Network, form, rank and number of calibration inputs of every row."""
    for network in NETWORKS:
        for form, ranks in RANKS:
            for rank in ranks:
                yield network, form, rank, max(AMOUNTS)
        for amount in AMOUNTS[:-1]:
            yield network, "pw-dw-pw", SHARE, amount


def measure(network: str, form: str, rank: float, inputs: int, folder: Path) -> Row:
    """Fit and judge one rewrite."""
    chosen = np.random.default_rng(0).permutation(max(AMOUNTS))[:inputs]
    images = np.load(SAMPLES / "fashion_calibration.npz")["image"]
    np.savez(folder / "fit.npz", image=images[np.sort(chosen)])
    record = sepconvert.rewrite(
        SAMPLES / f"{network}.onnx",
        data=folder / "fit.npz",
        test_data=SAMPLES / "fashion_test.npz",
        form=form,
        rank=rank,
        measure=sepconvert.Measure(latency=False),
        planning=sepconvert.Planning(allow_loss=True),
    ).record
    assert record.fidelity is not None
    worst = record.fidelity.worst
    before = sum(site.macs or 0 for site in record.sites)
    after = sum(site.macs_after or 0 for site in record.sites)
    return Row(
        network,
        form,
        rank,
        inputs,
        after / before,
        None if worst is None else worst.decisive_error,
        record.fidelity.top1_before,
        record.fidelity.top1_after,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print("| network | form, rank | inputs | sites' MACs | relative error | top-1 |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for one in asked():
            row = measure(*one, Path(folder))
            rows.append(row)
            told = f"{row.error:.5f} | {100 * (row.top1 or 0):.2f} %"
            name = f"{row.network} ({100 * (row.top1_before or 0):.2f} %)"
            print(f"| {name} | {row.form} {row.rank} | {row.inputs} | {row.site_macs:.2f} | {told} |", flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
