"""Is a planned network closer to the original than any uniform rank of any form that is as fast? Run by hand.

    python -m tests.benchmarks.equal_latency open_nsfw.onnx --data calibration.npz --test-data test.npz \\
        --share-of-best 0.95 --seeds 4 --jobs 2 --folder made --out reports/open_nsfw_equal_latency.json

First the models are made: the plan for ``--speedup``, or for a share of the best reachable speed-up, and every form at
the one share of each site's MACs that is measured to be as fast (random weights). The best reachable is the fastest
candidate at every site. A quiet machine is needed for these times, a few minutes. Then each plan is fitted with several
seeds, which choose the positions that are looked at and the inputs that are held out; it takes minutes a fit, and the
machine may be busy. Last, one model of each plan is timed with the original and the fastest in turns, in sessions that
are opened several times; quiet again. What is in the folder is not made again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from sepconvert.fitting.results import SitePlan
from sepconvert.graph.save import model_bytes
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.architecture import ArchitectureTimer
from sepconvert.planning.plans import PlannedSite, SiteOption
from sepconvert.planning.site_timing import Effort, time_interleaved
from sepconvert.runtime.engines import ON_CPU
from sepconvert.separable.forms import cli_name
from sepconvert.separable.scheme import Scheme
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.fit import apply_fits, fit_plans
from sepconvert.workflows.measure import measure_fidelity
from sepconvert.workflows.opened import Case, open_with_data, select_sites
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.uniform_curve import UniformCurve

ORIGINAL, FASTEST, PLANNED = "original", "fastest", "planned"
EFFORT = Effort(seconds=20, fewest_rounds=8, most_rounds=400)

Choice = tuple[str, int, str | None] | None  # form, rank, lowering; None: dense
Plan = dict[str, Choice]  # by the site's output


def make_planner(options: argparse.Namespace) -> Planner:
    request = Request(model=options.model, form=options.form)
    opened, (data,) = open_with_data(find_source(options.model), request, [options.data])
    chosen, _ = select_sites(opened.found.sites, (), ())
    return Planner(Case(request, opened, chosen, data, data))


def fastest(planner: Planner) -> list[PlannedSite]:
    choices = planner.choices_by_latency
    picked = [min(options, key=lambda option: option.ms or 0.0) for options in choices.options]
    return [PlannedSite(site, option) for site, option in zip(choices.sites, picked, strict=True)]


def plan_all(options: argparse.Namespace) -> dict[str, Any]:
    """Find the plans that are as fast as asked."""
    planner = make_planner(options)
    with one_blas_thread():
        best = fastest(planner)
        reachable = planner.time_architecture(best).speedup
        asked = options.speedup or options.share_of_best * reachable
        plans: dict[str, Plan] = {
            FASTEST: {p.site.output: _choice(p.option.scheme) for p in best},
            PLANNED: _choices(planner.by_speedup(asked).site_plans),
        }
        for form in planner.case.request.forms:
            found = UniformCurve(planner, form).plans(asked) if options.uniform in ("every", cli_name(form)) else None
            if found is not None:
                plans[f"{cli_name(form)} {found[0]:.3g}"] = _choices(found[1])
    return {"asked": asked, "plans": plans, "errors": {}, "speedups": {}}


def _choice(scheme: Scheme | None) -> Choice:
    return None if scheme is None else (scheme.form, scheme.rank, scheme.lowering)


def _choices(plans: Sequence[SitePlan]) -> Plan:
    return {plan.site.output: _choice(*plan.schemes) if plan.schemes else None for plan in plans}


def _site_plan(site: ConvSite, choice: Choice) -> SitePlan:
    if choice is None:
        return SitePlan(site, (), "kept")
    return SitePlan(site, (Scheme(*choice),))


def fit_one(options: argparse.Namespace, name: str, plan: Plan, seed: int) -> tuple[str, list[float | None]]:
    """Fit a plan, write the model, and return its name and its worst output's error on each of the test inputs."""
    named = [options.data, *options.test_data]
    request = Request(model=options.model, form=options.form, seed=seed)
    opened, (data, *tests) = open_with_data(find_source(options.model), request, named)
    plans = [_site_plan(site, plan[site.output]) for site in opened.found.sites if site.output in plan]
    with one_blas_thread():
        fits = fit_plans(Case(request, opened, [plan.site for plan in plans], data, data), plans)
        made = apply_fits(opened, fits, seed).opened
    path(options, name, seed).write_bytes(model_bytes(made.model))
    return name, [worst_error(measure_fidelity(opened, made, test, seed)[0]) for test in tests]


def path(options: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = options.folder
    return folder / f"{name.replace(' ', '_')}_{seed}.onnx"


def fit_all(options: argparse.Namespace, made: dict[str, Any]) -> None:
    for seed in range(options.seeds):
        missing = [n for n in made["plans"] if n != FASTEST and len(made["errors"].get(n, [])) <= seed]
        tasks = (delayed(fit_one)(options, name, made["plans"][name], seed) for name in missing)
        for name, errors in Parallel(n_jobs=options.jobs)(tasks):
            made["errors"].setdefault(name, []).append(errors)
            print(name, "seed", seed, errors, flush=True)
        note(options, made)


def time_all(options: argparse.Namespace, made: dict[str, Any]) -> None:
    """Time all models in turns; each time the sessions are opened gives one speed-up of each."""
    planner = make_planner(options)
    feeds = next(iter(planner.case.sample.batches(1)))
    names = [name for name in made["plans"] if name != FASTEST]
    models: dict[str, bytes | Path] = {ORIGINAL: options.model, FASTEST: _fastest_model(planner, made["plans"])}
    models |= {name: path(options, name, 0) for name in names}
    for _ in range(options.reopened):
        loaded = [ON_CPU.load(model, feeds) for model in models.values()]
        times = np.array(time_interleaved(loaded, EFFORT))
        speedups = np.exp(np.median(np.log(times[0] / times), axis=1))
        for name, speedup in zip(models, speedups, strict=True):
            made["speedups"].setdefault(name, []).append(float(speedup))
        del loaded
    note(options, made)


def _fastest_model(planner: Planner, plans: Mapping[str, Plan]) -> bytes:
    timer: ArchitectureTimer = planner._timer
    found = [_site_plan(site, plans[FASTEST][site.output]) for site in planner.case.sites]
    return timer.candidate([PlannedSite(p.site, SiteOption(next(iter(p.schemes), None))) for p in found])


def note(options: argparse.Namespace, made: Mapping[str, Any]) -> None:
    (options.folder / "made.json").write_text(json.dumps(made, indent=1) + "\n")
    if options.out is not None:
        options.out.write_text(json.dumps(made, indent=1) + "\n")


def describe(made: Mapping[str, Any]) -> str:
    """Geometric means with their standard errors; beside the plan's run by run and seed by seed."""
    speeds = {name: np.log(values) for name, values in made["speedups"].items()}
    errors = {name: np.log(np.array(values, float)) for name, values in made["errors"].items()}
    lines = [f"asked {made['asked']:.3f}; best reachable {_spread(speeds[FASTEST])}"]
    for name, logs in errors.items():
        speed = f"{_spread(speeds[name])}x, {_spread(speeds[name] - speeds[FASTEST])} of the best"
        lines.append(f"{name:16} {speed}; error {', '.join(map(_spread, logs.T))}")
        if name != PLANNED:
            seeds = min(len(logs), len(errors[PLANNED]))
            beside = (logs[:seeds] - errors[PLANNED][:seeds]).mean(axis=1)
            lines.append(
                f"{'':16} over the plan's: speed {_spread(speeds[name] - speeds[PLANNED])}, error {_spread(beside)}"
            )
    return "\n".join(lines)


def _spread(logs: np.ndarray) -> str:
    """The geometric mean and its relative standard error."""
    middle = float(np.exp(np.mean(logs)))
    return f"{middle:.4g}" if len(logs) < 2 else f"{middle:.4g} ±{float(np.std(logs, ddof=1)) / len(logs) ** 0.5:.1%}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, action="append", required=True, help="repeatable")
    parser.add_argument("--form", default="any")
    parser.add_argument("--speedup", type=float)
    parser.add_argument("--share-of-best", type=float, default=0.95)
    parser.add_argument("--uniform", default="every", help="the one form of uniform models to make")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="fits at the same time")
    parser.add_argument("--reopened", type=int, default=6, help="how often sessions are opened to be timed")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    notes = options.folder / "made.json"
    made = json.loads(notes.read_text()) if notes.exists() else plan_all(options)
    note(options, made)
    fit_all(options, made)
    time_all(options, made)
    print(describe(made))


if __name__ == "__main__":
    main()
