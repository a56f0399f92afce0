"""The exact oracle for folded sums: a convolution and the sum after it, against the convolution that took both in.

With C input channels a dense output is a sum of C products, the bias and z; the folded one has as many products. So
2C + 8 roundings, relative to ``(Σ|P| + 1)·|z| + |b|``, bound what the two may differ by (see ``rounding``), and beside
that what rounding the diagonal to the weight's own type does: a unit roundoff of ``(|P| + 1)·|z|``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sepconvert.errors import VerificationError
from sepconvert.graph.cut_site import extract_chain
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.residuals import Residual
from sepconvert.graph.weights import read_constant
from sepconvert.number_types import rounded
from sepconvert.record import SelfCheck
from sepconvert.verify.oracle import SiteCheck, closeness, deviation, draw_inputs, own_bias, run_both
from sepconvert.verify.rounding import ARITHMETICS, Arithmetic


def check_folds(
    model: LoadedModel, folded: LoadedModel, residuals: Sequence[Residual], rng: np.random.Generator
) -> SelfCheck:
    """Check every fold, cut out of the two graphs as they are.

    Args:
        model: before the fold.
        folded: after it.
        residuals: what was folded, at least one.
        rng: draws the inputs.

    Returns:
        The fold closest to its bound.

    Raises:
        VerificationError: a folded convolution does not compute what it should; the message names it.
    """
    checks = []
    for residual in residuals:
        for arithmetic in ARITHMETICS[residual.site.dtype]:
            check = _check(arithmetic, model, folded, residual, rng)
            if not check.passed:
                raise VerificationError(
                    f"The fold of '{residual.site.output}' into '{residual.site.name}' differs by "
                    f"{check.max_relative:.2g} in {check.engine}, more than rounding explains ({check.tolerance:.2g}); "
                    "this is a bug, please report it."
                )
            checks.append(check)
    worst = max(checks, key=closeness)
    return SelfCheck(worst.max_relative, worst.tolerance, len(residuals))


def _check(
    arithmetic: Arithmetic,
    model: LoadedModel,
    folded: LoadedModel,
    residual: Residual,
    rng: np.random.Generator,
) -> SiteCheck:
    site = replace(residual.site, dtype=arithmetic.dtype)
    bias = own_bias(model, residual.site, rng)
    held = None if bias is None else rounded(bias, residual.site.dtype).astype(np.float64)
    kernel = read_constant(model, site.weight).astype(np.float64)
    before, after = extract_chain(model.ir, site, held), extract_chain(folded.ir, site, held)
    inputs = draw_inputs(site, kernel, held, arithmetic, rng)
    engine, expected, found = run_both(arithmetic.dtype, before, after, inputs)
    largest = max(float(np.abs(x).max()) for x in inputs)
    sums = np.abs(kernel).reshape(len(kernel), -1).sum(axis=1) + 1
    magnitude = sums * largest + (0 if held is None else np.abs(held))
    tolerance = arithmetic.tolerance(2 * site.geometry.in_channels + 8)
    diagonal = np.abs(np.diagonal(kernel)).reshape(-1) + 1
    magnitude += ARITHMETICS[residual.site.dtype][-1].roundoff * diagonal * largest / tolerance
    worst = max(deviation(one, other, magnitude) for one, other in zip(expected, found, strict=True))
    return SiteCheck(worst, tolerance, worst <= tolerance, f"{engine} ({arithmetic.dtype})")
