"""The exact oracle: does the written chain compute what its factors say?

Per site, the original Conv carrying ``reconstruct(factors)`` (from the rounded, written arrays) and the rewritten bias
runs against the written chain on a seeded random input. What differs is rounding or a bug, never the error of the
approximation.

The tolerance is a bound, not a choice (see ``rounding``): n counts the roundings of the dense convolution plus the
chain's, and the magnitudes are those of the factors' products, ``(Σ|P||D|) * |x| + |b|``.

float32 runs in onnxruntime; float64, which onnxruntime's CPU Conv lacks, in ``onnx.reference``; so does what
onnxruntime refuses in the original already (a dilated Conv with auto_pad). In float16 and bfloat16 the bound exceeds
the values as soon as there are some hundred terms, so such a site is checked twice: the same nodes and the same
weights, which float32 holds exactly, in float32 under the bound above; and in its own type, in onnxruntime or
(bfloat16) ``onnx.reference``, under the probabilistic bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import ModelError, VerificationError
from sepconvert.graph.cut_site import extract_chain, extract_convolution
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, Rewritten, of_use
from sepconvert.graph.site_models import INPUT, OUTPUT
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import find_value
from sepconvert.graph.weights import Origin, origin_of, read_constant
from sepconvert.number_types import numpy_dtype, rounded
from sepconvert.record import SelfCheck
from sepconvert.runtime.sessions import open_session
from sepconvert.separable.forms import reconstruct
from sepconvert.verify.rounding import ARITHMETICS, Arithmetic, magnitudes, roundings, underflows

Array = NDArray[np.floating]
Run = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """Worst deviation of one site's chain, relative to the magnitudes that were summed, and the bound on it."""

    max_relative: float
    tolerance: float
    passed: bool
    engine: str


def check_rewrite(
    model: LoadedModel, rewritten: Rewritten, replacements: Sequence[Replacement], rng: np.random.Generator
) -> SelfCheck:
    """Check every site of a rewrite, cut out of the two graphs as they are.

    Args:
        model: the original.
        rewritten: the result of ``rewrite_model`` on it.
        replacements: what was replaced.
        rng: draws the inputs.

    Returns:
        The site, or the one of the layers that it is, closest to its bound.

    Raises:
        VerificationError: a chain does not compute what its factors say; the message names the site.
    """
    checks = []
    for replacement in replacements:
        for use in replacement.site.uses:
            written = of_use(model, replacement, use)
            check = _check(model, rewritten, written, rng)
            if not check.passed:
                raise VerificationError(_complaint(written, check))
            checks.append(check)
    worst = max(checks, key=closeness)
    return SelfCheck(worst.max_relative, worst.tolerance, len(replacements))


def own_bias(model: LoadedModel, site: ConvSite, rng: np.random.Generator) -> Array | None:
    """Read the site's bias (M,); one that is computed at run time is drawn, the same for both models."""
    if site.bias is None:
        return None
    value = find_value(model, site.bias)
    if value is None or origin_of(value, model.ir.ir_version) is Origin.DYNAMIC:
        return rng.standard_normal(site.geometry.out_channels)
    return read_constant(model, site.bias).astype(np.float64)


def _complaint(replacement: Replacement, check: SiteCheck) -> str:
    return (
        f"Site '{replacement.site.output}': the nodes written for {replacement.factors.form} ({replacement.lowering}) "
        f"differ from the convolution they stand for by {check.max_relative:.2g} in {check.engine}, more than rounding "
        f"explains ({check.tolerance:.2g}); this is a bug, please report it."
    )


def closeness(check: SiteCheck) -> float:
    """How much of its bound a check has used."""
    return check.max_relative / check.tolerance


def _check(model: LoadedModel, rewritten: Rewritten, replacement: Replacement, rng: np.random.Generator) -> SiteCheck:
    dtype, bias = replacement.site.dtype, replacement.bias
    if bias is None:
        bias = own_bias(model, replacement.site, rng)
    held = None if bias is None else rounded(bias, dtype).astype(np.float64)
    checks = [_check_in(kind, model, rewritten, replacement, held, rng) for kind in ARITHMETICS[dtype]]
    return max(checks, key=closeness)


def _check_in(
    arithmetic: Arithmetic,
    model: LoadedModel,
    rewritten: Rewritten,
    replacement: Replacement,
    bias: Array | None,
    rng: np.random.Generator,
) -> SiteCheck:
    site = replace(replacement.site, dtype=arithmetic.dtype)
    factors = replacement.factors.astype(np.float64)
    terms = roundings(replacement.layers, site.geometry)
    kernel = reconstruct(factors)
    dense, chain = extract_convolution(model.ir, site, kernel, bias), extract_chain(rewritten.model.ir, site, bias)
    inputs = draw_inputs(site, kernel, bias, arithmetic, rng)
    try:
        engine, expected, found = run_both(arithmetic.dtype, dense, chain, inputs)
    except ModelError as error:
        raise VerificationError(f"Site '{site.output}': the nodes written for it do not run: {error}") from error
    largest = max(float(np.abs(x).max()) for x in inputs)
    tolerance = arithmetic.tolerance(terms)
    magnitude = magnitudes(factors) * largest + (0 if bias is None else np.abs(bias))
    magnitude += underflows(factors, terms, arithmetic) * max(1.0, largest) / tolerance
    pairs = [(site.made(one), site.made(other)) for one, other in zip(expected, found, strict=True)]
    worst = max(deviation(one, other, magnitude) for one, other in pairs)
    return SiteCheck(worst, tolerance, worst <= tolerance, f"{engine} ({arithmetic.dtype})")


def run_both(dtype: str, dense: bytes, chain: bytes, inputs: Sequence[Array]) -> tuple[str, list[Array], list[Array]]:
    """Run both models; the reference evaluator takes over what onnxruntime refuses in the original already."""
    if dtype in ("float32", "float16"):
        try:
            run = _in_onnxruntime(dense)
            expected = [run(x) for x in inputs]
        except ModelError:
            pass
        else:
            run = _in_onnxruntime(chain)
            return "onnxruntime", expected, [run(x) for x in inputs]
    first, second = _in_reference(dense), _in_reference(chain)
    return "onnx.reference", [first(x) for x in inputs], [second(x) for x in inputs]


def _in_onnxruntime(model: bytes) -> Run:
    session = open_session(model, optimise=False)
    return lambda x: session.run({INPUT: x})[OUTPUT]


def _in_reference(model: bytes) -> Run:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))

    def run(x: Array) -> Array:
        try:
            (result,) = evaluator.run([OUTPUT], {INPUT: x})
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"onnx.reference could not run the model: {error}.") from error
        return np.asarray(result)

    return run


def draw_inputs(
    site: ConvSite, kernel: Array, bias: Array | None, arithmetic: Arithmetic, rng: np.random.Generator
) -> list[Array]:
    """Two inputs, of odd and of even sizes: auto_pad and strides treat them differently.

    Values have random signs and magnitudes between ½ and 1: |x| is then nearly constant, and max|x|·Σ|W| a tight bound
    on |W| * |x|. Each axis has another size, large enough for three output positions without any padding.
    """
    geometry = site.geometry
    axes = [geometry.along(axis) for axis in range(len(geometry.kernel))]
    single = site.notation.single_axis
    sizes = [(axis.reach + 2 * axis.stride) // 2 * 2 + 1 + 2 * index for index, axis in enumerate(axes)]
    scale = _balance(kernel, bias) if arithmetic.bounded else _within(arithmetic, kernel)
    drawn = []
    for more in (0, 1):
        shape = [1 if axis == single else size + more for axis, size in enumerate(sizes)]
        values = rng.uniform(-0.5, 0.5, (1, geometry.in_channels, *shape))
        values += np.copysign(0.5, values)
        values *= scale
        drawn.append(site.unseen(values.astype(numpy_dtype(arithmetic.dtype))))
    return drawn


def _balance(kernel: Array, bias: Array | None) -> float:
    """Scale of the input at which products and bias have like magnitudes, so that an error in either shows."""
    if bias is None or not bias.any() or not kernel.any():
        return 1.0
    ratio = float(np.sqrt(np.mean(bias**2) / np.mean(np.sum(kernel.reshape(len(kernel), -1) ** 2, axis=1))))
    return min(max(ratio, 1e-3), 1e3)


def _within(arithmetic: Arithmetic, kernel: Array) -> float:
    """Scale of the input at which the largest sums of float16, and those of factors, stay far from its largest number.

    The networks that hold such weights feed them small values.
    """
    if arithmetic.dtype != "float16":
        return 1.0
    largest = float(np.abs(kernel.reshape(len(kernel), -1)).sum(axis=1).max())
    return min(1.0, float(np.finfo(np.float16).max) / 16 / max(largest, 1.0))


def deviation(expected: Array, found: Array, magnitude: Array) -> float:
    """Largest |difference| / magnitude, the magnitudes being one per output channel."""
    if expected.shape != found.shape:
        return float("inf")
    one, other = expected.astype(np.float64), found.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    ratios = np.abs(one - other) / magnitude.reshape(1, -1, *(1,) * (one.ndim - 2))
    return float(ratios.max())
