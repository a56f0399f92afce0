"""Train factors that were drawn at random on one layer's own inputs and outputs, before the network is trained whole.

Layer-wise training ends in one place however it is done, since a layer's squared error is a quadratic form of its
kernel: here it is descended from the drawn point itself, the last factor eliminated, rather than by thousands of
stochastic steps; where the optimum has a closed form, it ends there. It gives every layer a signal of the right size
and mean, without which a deep network of random layers learns slowly.
"""

import numpy as np

from sepconvert.fitting.results import SiteFit, SitePlan
from sepconvert.fitting.select import RIDGES, SiteData
from sepconvert.fitting.site import moments_error
from sepconvert.separable.descent import descend
from sepconvert.separable.factors import Factors, rows_scaled, side_by_side
from sepconvert.separable.fitted import TOLERANCE, default_evaluations
from sepconvert.separable.forms import FORMS, draw
from sepconvert.separable.problem import Problem


def with_random_start(plan: SitePlan, rng: np.random.Generator) -> SitePlan:
    """Draw variance-preserving random factors of the scheme with the highest rank, which alone is left.

    Its cost grows in the finest steps, so it comes closest to the budget without exceeding it.
    """
    scheme = max(plan.schemes, key=lambda option: option.rank)
    return SitePlan(plan.site, (scheme,), None, draw(scheme.form, plan.site.geometry, scheme.rank, rng))


def settle_drawn(plan: SitePlan, site: SiteData, drawn: Factors) -> SiteFit:
    """Descend from ``drawn`` to what the site should compute; its error is judged on held-out inputs."""
    ridge = RIDGES[len(RIDGES) // 2]
    parts = zip(site.problems(ridge), drawn.parts, strict=True)
    trial = site.judged(side_by_side([_descended(problem, part) for problem, part in parts]), ridge)
    return SiteFit(
        plan.site,
        plan.schemes[0],
        trial.factors,
        bias=trial.bias,
        ridge=ridge,
        error_calibration=moments_error(site.moments, trial.kernel, site.row_scale),
        error_heldout=trial.error,
    )


def _descended(problem: Problem, drawn: Factors) -> Factors:
    module = FORMS[drawn.form]
    best = module.optimum(problem, drawn.rank)
    if best is not None:
        return rows_scaled(best, module.LAST, 1 / problem.row_scale)
    scaled = rows_scaled(drawn, module.LAST, problem.row_scale)
    # A search that cannot extend these factors is for another order of theirs (``spatial``).
    searches = [way for way in module.search(problem, drawn.rank) if way.extended(scaled) is not None]
    if not searches:
        return drawn
    search = searches[0]
    start = search.point(scaled)
    found = descend(search.evaluate, start, default_evaluations(search.work), TOLERANCE)
    return rows_scaled(search.factors(found.point), module.LAST, 1 / problem.row_scale)
