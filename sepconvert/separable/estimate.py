"""What fits of many ranks would reach, for planning: a few short descents in place of many long ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.descent import descend
from sepconvert.separable.factors import Factors
from sepconvert.separable.fitted import default_evaluations
from sepconvert.separable.forms import FORMS
from sepconvert.separable.problem import Problem, inner
from sepconvert.separable.ranks import break_even

# Ranks that are really tried, and evaluations of the objective at each.
ANCHORS = 3
EVALUATIONS = 4
# Evaluations after which full fits have mostly stopped.
LONGEST = 80
# Output channels that stand for all in forms whose output channels are independent.
ENOUGH_OUTPUTS = 128


def estimate_errors(problem: Problem, form: str, ranks: Sequence[int]) -> NDArray[np.float64]:
    """Estimate the errors that ``fit`` would reach at several ranks.

    Short descents at a few of the ranks, carried on to a full fit's length by the form's usual rate (``DECAY``);
    between them the logarithm of the error is linear in the rank. Within about 25 % of full fits on layers of a
    ResNet-50, in a tenth of the time.

    Args:
        problem: what to fit to.
        form: key of ``FORMS``.
        ranks: ascending, each between 1 and the full rank.

    Returns:
        (len(ranks),) relative errors, not rising.
    """
    module = FORMS[form]
    problem = _thinned(problem) if module.OUTPUTS_INDEPENDENT else problem
    full, floor = module.full_rank(problem.geometry), problem.floor / problem.energy
    places = np.linspace(0, len(ranks) - 1, min(len(ranks), ANCHORS)).round().astype(int)
    anchors = sorted({ranks[place] for place in places})
    errors = dict.fromkeys(anchors, floor)
    tried = [rank for rank in anchors if rank < full]
    widest = module.search(problem, tried[-1])[0].starts() if tried and module.NESTED else []
    for rank in tried:
        errors[rank] = _descended(problem, form, rank, [leading(start, rank) for start in widest])
    tiny = float(np.finfo(np.float64).tiny)
    logarithms = np.interp(ranks, anchors, np.log(np.maximum(list(errors.values()), tiny)))
    curve: NDArray[np.float64] = np.minimum.accumulate(np.exp(logarithms))
    return curve


def leading(factors: Factors, rank: int) -> Factors:
    """The first ``rank`` components."""
    axes = FORMS[factors.form].COMPONENT_AXES
    arrays = {name: np.take(array, range(rank), axis=axes[name]) for name, array in factors.arrays.items()}
    return Factors(factors.form, rank, factors.kernel, arrays)


def _descended(problem: Problem, form: str, rank: int, starts: list[Factors]) -> float:
    """Error after a short descent, carried on to the length of a full one."""
    search = FORMS[form].search(problem, rank)[0]
    starts = starts or search.starts()
    if search.solved:
        return problem.scaled_error(starts[0].reconstruct().reshape(problem.weight.shape))
    descent = descend(search.evaluate, search.point(starts[0]), EVALUATIONS)
    floor = problem.floor / problem.energy
    longer = min(LONGEST, default_evaluations(search.work)) / EVALUATIONS
    share = min(1.0, rank / break_even(form, problem.geometry))
    low, high = FORMS[form].DECAY
    remaining: float = longer ** -(low + share * (high - low))
    return floor + (descent.history[-1] - floor) * remaining


def _thinned(problem: Problem) -> Problem:
    """The problem of evenly spread output channels, where there are many."""
    outputs = len(problem.weight)
    if outputs <= ENOUGH_OUTPUTS:
        return problem
    rows = np.linspace(0, outputs - 1, ENOUGH_OUTPUTS).round().astype(int)
    weight, target = problem.weight[rows], problem.target[rows]
    whole = inner(problem.target, problem.weight)
    share = inner(target, weight) / whole if whole > 0 else 1.0
    return Problem(
        replace(problem.geometry, out_channels=len(rows)),
        problem.original[rows],
        weight,
        target,
        problem.gram,
        problem.floor * share,
        problem.energy * (share or 1.0),
        problem.row_scale[rows],
    )
