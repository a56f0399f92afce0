"""How good were the planner's predictions? From the records of planned rewrites and sweeps, without running anything.

python -m tests.benchmarks.planning_figures reports/fashion_vgg.json reports/fashion_vgg_sweep.json …

* Prediction error of the whole model's latency, relative to the original's: how far predicted over measured speed-up is
  from 1.
* Realised speed-up of the rewritten sites: how many times faster a site was timed to be, over how many times fewer MACs
  it has; the median over the sites.
* Predicted over measured error of the worst output.
* Of a sweep: each plan's error over that of one share for all sites at the same measured speed-up, of the form for
  which that is least (interpolated between that form's models, in the logarithms).
"""

import argparse
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from statistics import median

import numpy as np

from sepconvert.record import Record


def latency_errors(record: Record) -> list[float]:
    """Relative errors of the predicted speed-ups: of a rewrite's plan, or of every point of a sweep that has one."""
    found = []
    if record.plan is not None and record.plan.predicted and record.plan.measured:
        predicted, measured = record.plan.predicted.get("speedup"), record.plan.measured.get("speedup")
        if predicted and measured:
            found.append(abs(predicted / measured - 1))
    for point in record.sweep.points if record.sweep is not None else []:
        if point.predicted_speedup is not None and point.speedup is not None:
            found.append(abs(point.predicted_speedup / point.speedup - 1))
    return found


def realised_shares(record: Record) -> list[float]:
    """Speed-up over MAC ratio of every rewritten site that was timed."""
    return [
        site.latency_ms / site.latency_ms_after * site.macs_after / site.macs
        for site in record.sites
        if site.status == "rewritten" and site.latency_ms and site.latency_ms_after and site.macs and site.macs_after
    ]


def damage_ratios(record: Record) -> list[float]:
    """Predicted over measured error."""
    found = []
    if record.plan is not None and record.plan.predicted and record.plan.measured:
        predicted, measured = record.plan.predicted.get("max_error"), record.plan.measured.get("max_error")
        if predicted and measured:
            found.append(predicted / measured)
    for point in record.sweep.points if record.sweep is not None else []:
        if point.predicted_error and point.error:
            found.append(point.predicted_error / point.error)
    return found


def uniform_ratios(record: Record) -> list[float]:
    """Errors of a sweep's plans, of those that lie between uniform shares' speed-ups, over theirs at equal speed-up."""
    if record.sweep is None:
        return []
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in record.sweep.baselines:
        if point.label.startswith("uniform") and point.form and point.speedup and point.error:
            curves.setdefault(point.form, []).append((log(point.speedup), log(point.error)))
    found = []
    for point in record.sweep.points:
        if not point.speedup or not point.error:
            continue
        speed = log(point.speedup)
        uniform = [
            float(np.interp(speed, *zip(*sorted(curve), strict=True)))
            for curve in curves.values()
            if min(curve)[0] <= speed <= max(curve)[0]
        ]
        if uniform:
            found.append(point.error / exp(min(uniform)))
    return found


def describe(path: Path, record: Record) -> str:
    parts = [f"{path}:"]
    for name, figures in (
        ("latency off by", latency_errors(record)),
        ("sites' speed-up over MAC ratio", realised_shares(record)),
        ("predicted over measured error", damage_ratios(record)),
        ("error over that of one share for all at equal speed-up", uniform_ratios(record)),
    ):
        parts.append(f"  {name}: {_summary(figures)}")
    return "\n".join(parts)


def _summary(figures: Sequence[float]) -> str:
    if not figures:
        return "not in this record"
    return f"median {median(figures):.3f} of {len(figures)} ({min(figures):.3f}–{max(figures):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+")
    records = {path: Record.read(path) for path in parser.parse_args().records}
    for path, record in records.items():
        print(describe(path, record))
    errors = [error for record in records.values() for error in latency_errors(record)]
    shares = [share for record in records.values() for share in realised_shares(record)]
    print(f"all: latency off by {_summary(errors)}; sites' speed-up over MAC ratio {_summary(shares)}")


if __name__ == "__main__":
    main()
