"""Train factors that were drawn at random on one layer's own inputs and outputs, before the network is trained whole.

Layer-wise training ends in one place however it is done, since a layer's squared error is a quadratic form of its
kernel: here it is descended from the drawn point itself, the last factor eliminated, rather than by thousands of
stochastic steps. It gives every layer a signal of the right size and mean, without which a deep network of random
layers learns slowly.
"""

from sepconvert.fitting.results import FittedSite, SiteChoice
from sepconvert.fitting.select import RIDGES, SiteFit
from sepconvert.fitting.site import SiteData, moments_error
from sepconvert.separable.descent import descend
from sepconvert.separable.factors import Factors, rows_scaled
from sepconvert.separable.fitted import TOLERANCE, default_evaluations
from sepconvert.separable.forms import FORMS
from sepconvert.separable.problem import Problem


def settle_drawn(choice: SiteChoice, seen: SiteData, drawn: Factors) -> FittedSite:
    """Descend from ``drawn`` to what the site should compute; its error is judged on held-out inputs."""
    geometry, output = choice.site.geometry, choice.site.output
    moments = seen.sample.moments()
    site = SiteFit(geometry, seen.weight, seen.dtype, seen.row_scale, moments, seen.sample.judge(seen.row_scale))
    ridge = RIDGES[len(RIDGES) // 2]
    trial = site.judged(_descended(site.problem(ridge), drawn), ridge)
    return FittedSite(
        output=output,
        factors=trial.factors,
        kernel=None,
        bias=trial.bias.astype(seen.dtype),
        ridge=ridge,
        error_calibration=moments_error(moments, trial.kernel, seen.row_scale),
        error_heldout=trial.error,
    )


def _descended(problem: Problem, drawn: Factors) -> Factors:
    module = FORMS[drawn.form]
    scaled = rows_scaled(drawn, module.LAST, problem.row_scale)
    # A search that cannot extend these factors is for another order of theirs (``spatial``).
    search = next(way for way in module.search(problem, drawn.rank) if way.extended(scaled) is not None)
    start = search.point(scaled)
    found = descend(search.evaluate, start, default_evaluations(search.work), TOLERANCE)
    return rows_scaled(search.factors(found.point), module.LAST, 1 / problem.row_scale)
