"""How well is the error of a plan predicted? Plans for several budgets of MACs, fitted and measured. Run by hand.

    python -m tests.benchmarks.damage --out reports/damage.json [--networks open_nsfw …] [--budgets 0.8 0.65 0.5]

A budget is the share that may stay of the MACs in layers that can be rewritten. Each plan is predicted from single
sites, fitted without training, and compared with the original on the test inputs of ``tests.benchmarks.models``.
Nothing is timed, so the machine may be busy. What the output file has already is not done again.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import suppress
from math import exp, log
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sepconvert import Measure, Planning, analyze, rewrite
from sepconvert.errors import NothingToDoError
from sepconvert.planning import site_profile
from tests.benchmarks.detector import detector_files
from tests.benchmarks.models import open_case

NETWORKS = ("fashion_resnet", "fashion_vgg", "open_nsfw", "common_det", "hed")
BUDGETS = (0.7, 0.5, 0.35, 0.25)
WITHIN = 2.0


def files(network: str) -> tuple[Path, Path, Path]:
    """Model, calibration inputs, test inputs."""
    if network == "common_det":
        return detector_files()
    case = open_case(network)
    return case.model, case.calibration, case.test


def profile_only(network: str, of: str, stand_in: Callable[..., Any]) -> None:
    """Profile a network with another function in the place of one of ``sepconvert.planning.site_profile``'s."""
    model, calibration, _ = files(network)
    with patch.object(site_profile, of, stand_in), suppress(NothingToDoError):  # of a stand-in that gives no candidates
        rewrite(
            model,
            data=str(calibration),
            form="any",
            macs=0.9,
            measure=Measure(latency=False),
            planning=Planning(cache=False, jobs=1),
            progress=False,
        )


def run(network: str, budget: float, form: str) -> dict[str, Any]:
    """Plan, fit and measure once."""
    model, calibration, test = files(network)
    before = analyze(model, measure=Measure(latency=False)).totals.before
    assert before.macs is not None
    assert before.site_macs is not None
    ratio = 1 - (1 - budget) * before.site_macs / before.macs
    record = rewrite(
        model,
        data=str(calibration),
        test_data=str(test),
        form=form,
        macs=ratio,
        measure=Measure(latency=False),
        planning=Planning(cache=True, jobs=1),
    ).record
    assert record.plan is not None
    assert record.plan.predicted is not None
    assert record.plan.measured is not None
    assert record.fidelity is not None
    parts = [part for output in record.fidelity.outputs for part in getattr(output, "parts", [])]
    return {
        "network": network,
        "form": form,
        "share": budget,
        "rewritten": sum(site.status == "rewritten" for site in record.sites),
        "predicted": record.plan.predicted["max_error"],
        "predicted_part": record.plan.predicted.get("worst_part"),
        "measured": record.plan.measured["max_error"],
        "parts": {part.name: part.relative_error for part in parts},
        "seconds": record.seconds,
    }


def table(found: list[dict[str, Any]]) -> str:
    """A table for ``reports/README.md``, and how far the predictions are off."""
    lines = ["| network | sites' MACs left | predicted | measured | predicted / measured |", "|---|---|---|---|---|"]
    for one in found:
        ratio = one["predicted"] / one["measured"]
        lines.append(
            f"| {one['network']} | {one['share']:g} | {one['predicted']:.2g} | {one['measured']:.2g} | {ratio:.2f} |"
        )
    logs = [log(one["predicted"] / one["measured"]) for one in found]
    inside = sum(abs(value) <= log(WITHIN) for value in logs)
    worst = exp(max(map(abs, logs), default=0.0))
    lines.append(f"\n{inside} of {len(logs)} within {WITHIN:g}x; the worst is off by {worst:.2f}x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--form", default="any")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {(one["network"], one["share"], one["form"]) for one in found}
    for network in options.networks:
        for budget in options.budgets:
            if (network, budget, options.form) not in done:
                found.append(run(network, budget, options.form))
                options.out.write_text(json.dumps(found, indent=1) + "\n")
                print(json.dumps(found[-1]), flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
