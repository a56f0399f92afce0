"""Is a planned network closer to the original than any uniform rank of any form that is as fast? Run by hand.

    python -m tests.benchmarks.equal_latency open_nsfw.onnx --data calibration.npz --test-data test.npz \\
        --folder made --share-of-best 0.95 --out reports/open_nsfw_equal_latency.json

First the models are made (minutes; the machine may be busy): the plan for ``--speedup``, or for a share of the best
reachable speed-up, and every form at the one share of each site's MACs that is predicted to be as fast. The best
reachable is measured: the fastest candidate at every site, with random weights, against the original. Then all models
in the folder are timed against the original, on a machine that should be quiet; a second run only times.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import sepconvert
from sepconvert.data import Preprocess
from sepconvert.planning.plans import PlannedSite, SiteOption
from sepconvert.record import Record
from sepconvert.runtime.timing import time_pair
from sepconvert.separable.forms import cli_name
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows.ask import Ask
from sepconvert.workflows.inputs import open_with_data
from sepconvert.workflows.opened import select_sites
from sepconvert.workflows.options import Measure, Planning, Target
from sepconvert.workflows.plan_record import worst_error
from sepconvert.workflows.planned import Planner
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.uniform_curve import UniformCurve


@dataclass
class Made:
    """One model; ``speedup`` and its interval are filled in when it is timed."""

    name: str
    macs: float
    sites: int
    error: float | None
    speedup: float | None = None
    interval: tuple[float, float] | None = None
    stable: bool | None = None


def make_planner(options: argparse.Namespace) -> Planner:
    opened, (data,) = open_with_data(find_source(options.model), {}, [str(options.data)], Preprocess())
    chosen, _ = select_sites(opened.found.sites, (), ())
    target = Target(form=options.form, speedup=2.0)
    return Planner(Ask(opened, chosen, target, data, data, Measure(), Planning(), 0))


def fastest(planner: Planner) -> list[PlannedSite]:
    choices = planner.choices_by_latency
    picked = [min(options, key=_ms) for options in choices.options]
    return [PlannedSite(site, option) for site, option in zip(choices.sites, picked, strict=True)]


def _ms(option: SiteOption) -> float:
    return option.ms or 0.0


def make(options: argparse.Namespace) -> dict[str, object]:
    planner = make_planner(options)
    with one_blas_thread():
        best = planner.time_architecture(fastest(planner))
        print(f"best reachable, random weights: {best.speedup:.3f} ({best.low:.3f}-{best.high:.3f})", flush=True)
        asked = options.speedup or options.share_of_best * best.speedup
        forms = [form for form in planner.ask.target.forms if options.uniform in ("every", cli_name(form))]
        curves = {form: UniformCurve(planner, form).plans(asked) for form in forms}
    made = [_rewritten(options, "planned", form=options.form, speedup=asked)]
    for form, found in curves.items():
        if found is None:
            print(f"{cli_name(form)} cannot be that fast at one share of every site", flush=True)
            continue
        made.append(_rewritten(options, f"uniform {cli_name(form)} {found[0]:.3g}", form=cli_name(form), rank=found[0]))
    return {"asked": asked, "best_reachable": asdict(best), "models": [asdict(model) for model in made]}


def _rewritten(options: argparse.Namespace, name: str, **how: object) -> Made:
    record: Record = sepconvert.rewrite(
        options.model,
        options.folder / f"{name.replace(' ', '_')}.onnx",
        data=str(options.data),
        test_data=str(options.test_data),
        outputs=sepconvert.workflows.Outputs(force=True),
        **how,
    ).record
    after, before = record.totals.after, record.totals.before
    assert after is not None
    sites = sum(site.status == "rewritten" for site in record.sites)
    made = Made(name, (after.macs or 0) / (before.macs or 1), sites, worst_error(record.fidelity))
    print(made, flush=True)
    return made


def time_all(options: argparse.Namespace, made: dict[str, object]) -> None:
    planner = make_planner(options)
    feeds = next(iter(planner.ask.sample.batches(1)))
    for model in made["models"]:
        path = options.folder / f"{model['name'].replace(' ', '_')}.onnx"
        timing = time_pair(options.model, path, feeds, rng=np.random.default_rng(0))
        model |= {"speedup": timing.speedup, "interval": timing.speedup_ci95, "stable": timing.stable}


def describe(made: dict[str, object]) -> str:
    best = made["best_reachable"]
    lines = [
        f"asked {made['asked']:.3f}; best reachable {best['speedup']:.3f} ({best['low']:.3f}-{best['high']:.3f})",
        f"{'model':32} {'speed-up':>9} {'interval':>15} {'of best':>8} {'error':>9} {'MACs':>6} {'sites':>5}",
    ]
    for model in made["models"]:
        low, high = model["interval"]
        noisy = "" if model["stable"] else " unstable"
        share = model["speedup"] / best["speedup"]
        lines.append(
            f"{model['name']:32} {model['speedup']:9.3f} {low:7.3f}-{high:.3f} {share:8.1%}"
            f" {model['error']:9.4g} {model['macs']:6.3f} {model['sites']:5}{noisy}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--form", default="any")
    parser.add_argument("--speedup", type=float)
    parser.add_argument("--share-of-best", type=float, default=0.95)
    parser.add_argument("--uniform", default="every", help="the one form of uniform models to make")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    notes = options.folder / "made.json"
    if not notes.exists():
        notes.write_text(json.dumps(make(options)))
    made = json.loads(notes.read_text())
    time_all(options, made)
    print(describe(made))
    if options.out is not None:
        options.out.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
