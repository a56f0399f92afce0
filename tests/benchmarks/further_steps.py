"""What do further steps of a fit leave of its error, at a low rank and at a high one? Run by hand, about four minutes.

    python -m tests.benchmarks.further_steps [--sites block4.conv2 block5.conv2] [--more 10]

For sites of HED and each form: the held-out error of the lowest and of the highest rank that a profile looks at, after
as many evaluations as it takes there, and what ``--more`` further ones leave of it. A profile measures that share at
one rank and takes it for all.
"""

import argparse
import contextlib
from unittest.mock import patch

from sepconvert import Measure, Planning, rewrite
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.planning.site_tasks import SiteTask
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.groups import estimate_groups, groups_bias, improve_groups, make_problems
from tests.benchmarks.models import open_case


class _DoneError(Exception):
    """All sites were looked at."""


def shares(task: SiteTask, more: int) -> None:
    """Print a site's rows."""
    geometry, effort = task.replay.site.geometry, task.effort
    problems = make_problems(task.moments, task.weight, geometry, effort.ridge, task.replay.row_scale, asymmetric=False)
    few = effort.evaluations(geometry)
    for form, ranks in task.ranks.items():
        for rank in (ranks[0], ranks[-1]):
            fits = [estimate_groups(problems, form, rank, few)]
            fits.append(improve_groups(problems, fits[0], more))
            kernels = [reconstruct(fit) for fit in fits]
            first, second = (task.judge.error(kernel, groups_bias(task.moments, kernel)) for kernel in kernels)
            assert first is not None
            assert second is not None
            print(
                f"| {task.replay.site.name} | {form} | {rank} | {few} | {first:.3g} | {second / first:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", default=["block4.conv2", "block5.conv2"])
    parser.add_argument("--more", type=int, default=10)
    options = parser.parse_args()
    left = set(options.sites)

    def looked_at(task: SiteTask) -> SiteProfile:
        if task.replay.site.name in left:
            shares(task, options.more)
            left.remove(task.replay.site.name)
        if not left:
            raise _DoneError
        return SiteProfile({"dw_pw": ErrorCurve((1,), (0.1,))})

    case = open_case("hed")
    print("| site | form | rank | evaluations | error | share that is left |")
    print("|---|---|---|---|---|---|")
    with patch("sepconvert.planning.profile.profile_site", looked_at), contextlib.suppress(_DoneError):
        rewrite(
            case.model,
            data=case.calibration,
            form="any",
            macs=0.5,
            measure=Measure(latency=False),
            planning=Planning(cache=False, jobs=1),
            progress=False,
        )


if __name__ == "__main__":
    main()
