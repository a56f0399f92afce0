"""Long kernels: moments by lags against moments of patches."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from sepconvert.separable.fitted import fit
from sepconvert.separable.forms import FORMS, rank_for_share, reconstruct
from sepconvert.separable.geometry import ConvGeometry, output_spatial
from sepconvert.separable.moments import MomentAccumulator, PatchMoments, fitted_bias
from sepconvert.separable.own_channel import OwnChannel
from sepconvert.separable.patches import gather_patches, sample_positions
from sepconvert.separable.problem import make_problem
from sepconvert.separable.signals import SignalMoments, is_long
from sepconvert.separable.stationary import STEPS, Stationary, windows_of

CHANNELS, OUTPUTS, TAPS, SIGNALS = 4, 5, 17, 60


def long_conv(stride: int = 1, dilation: int = 1, pads: tuple[int, int] = (8, 8), channels: int = CHANNELS, taps=TAPS):
    return ConvGeometry(channels, OUTPUTS, (taps,), (stride,), (dilation,), pads)


def signals(count: int, channels: int, length: int, seed: int = 0) -> NDArray[np.float32]:
    """Rectified mixtures of coloured noise: their mean is far from the zero that padding reads."""
    rng = np.random.default_rng(seed)
    noise = lfilter([1, 0.5, 0.3], [1, -0.8], rng.standard_normal((count, channels, length + 100)))[..., 100:]
    mixed = np.einsum("cd,ndt->nct", np.random.default_rng(9).standard_normal((channels, channels)), noise)
    return np.maximum(mixed + 0.5, 0).astype(np.float32)


def outputs_of(inputs: NDArray[np.float32], weight: NDArray[np.float64], geometry: ConvGeometry) -> NDArray[np.float64]:
    sizes = output_spatial(geometry, inputs.shape[2:])
    every = sample_positions(len(inputs), sizes, 10**9, np.random.default_rng(0))
    patches = gather_patches(inputs, geometry, every).reshape(len(inputs), every.shape[1], -1)
    return (patches @ weight.reshape(len(weight), -1).T).swapaxes(1, 2).reshape(len(inputs), -1, *sizes) + 2.0


def by_patches(inputs: NDArray[np.float32], made: NDArray[np.float64], geometry: ConvGeometry) -> PatchMoments:
    adder = MomentAccumulator(geometry)
    adder.add(inputs, made, sample_positions(len(inputs), made.shape[2:], 10**9, np.random.default_rng(0)))
    return adder.moments()


def by_lags(
    inputs: NDArray[np.float32], made: NDArray[np.float64], geometry: ConvGeometry, weight: NDArray[np.float64] | None
) -> PatchMoments:
    adder = SignalMoments(geometry, weight)
    for part in np.array_split(np.arange(len(inputs)), 3):
        adder.add(inputs[part], made[part])
    return adder.moments()


def written(moments: PatchMoments) -> NDArray[np.floating]:
    return moments.times(np.eye(len(moments.mean)))


def apart(one: NDArray[np.floating], two: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


SHAPES = [(1, 1, (8, 8)), (2, 1, (8, 8)), (1, 2, (16, 16)), (1, 1, (0, 0)), (3, 2, (7, 3))]


@pytest.mark.parametrize(("stride", "dilation", "pads"), SHAPES)
def test_moments_by_lags_are_those_of_patches_up_to_what_borders_change(
    stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    geometry = long_conv(stride, dilation, pads)
    weight = np.random.default_rng(1).standard_normal(geometry.weight_shape)
    inputs = signals(SIGNALS, CHANNELS, 300)
    made = outputs_of(inputs, weight, geometry)
    whole, lags = by_patches(inputs, made, geometry), by_lags(inputs, made, geometry, weight)
    # Means are exact, in float32 transforms. A covariance is of other positions: 1/√(signals · length / correlation).
    np.testing.assert_allclose(lags.mean, whole.mean, rtol=1e-4)
    np.testing.assert_allclose(lags.target_mean, whole.target_mean, rtol=1e-6)
    chance = 3 * np.sqrt(10 * stride / (SIGNALS * 300))
    assert apart(written(lags), written(whole)) < chance
    assert lags.cross is not None
    assert whole.cross is not None
    assert apart(lags.cross, whole.cross) < chance
    assert apart(lags.target_variance, whole.target_variance) < chance


def test_inputs_that_nothing_has_changed_call_for_no_correction_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = long_conv(channels=24, taps=33, pads=(16, 16))
    weight = np.random.default_rng(3).standard_normal(geometry.weight_shape)
    inputs = signals(SIGNALS, 24, 128)
    made = outputs_of(inputs, weight, geometry)
    products = []
    times = Stationary.times
    monkeypatch.setattr(Stationary, "times", lambda self, rows: products.append(len(rows)) or times(self, rows))
    changed = inputs + 0.1 * np.roll(inputs, 1, 1)
    for seen, most in ((inputs, 1), (changed, STEPS + 1)):
        problem = make_problem(by_lags(seen, made, geometry, weight), weight, geometry, 1e-2)
        products.clear()
        assert np.isfinite(problem.weight).all()
        assert len(products) <= most
        assert (apart(problem.weight, problem.original) > 1e-3) == (seen is changed)


def test_a_kernel_that_reproduces_the_outputs_leaves_no_error_by_lags() -> None:
    """Cross moment and covariance agree: with outputs that the kernel makes, it is the best kernel itself."""
    geometry = long_conv()
    weight = np.random.default_rng(1).standard_normal(geometry.weight_shape)
    inputs = signals(SIGNALS, CHANNELS, 100)
    moments = by_lags(inputs, outputs_of(inputs, weight, geometry), geometry, weight)
    problem = make_problem(moments, weight, geometry, 1e-3)
    assert problem.error(weight) < 1e-5
    assert apart(problem.weight.reshape(weight.shape), weight) < 1e-3


def test_products_blocks_and_solutions_by_lags_are_those_of_the_matrix_written_out() -> None:
    geometry = long_conv(pads=(8, 3))
    inputs = signals(SIGNALS, CHANNELS, 60)
    rng = np.random.default_rng(2)
    covariance = by_lags(inputs, np.zeros((SIGNALS, OUTPUTS, 55)), geometry, None).covariance
    assert not isinstance(covariance, np.ndarray)
    gram = covariance.lifted(0.03 * covariance.mean_diagonal)
    width = CHANNELS * TAPS
    matrix = gram.times(np.eye(width).reshape(width, CHANNELS, TAPS)).reshape(width, width).astype(np.float64)
    shaped = matrix.reshape(CHANNELS, TAPS, CHANNELS, TAPS)
    assert apart(matrix, matrix.T) < 1e-5
    assert np.linalg.eigvalsh(matrix)[0] > 0
    blocks = np.array([shaped[c, :, c] for c in range(CHANNELS)])
    np.testing.assert_allclose(gram.blocks(), blocks, atol=1e-5 * np.abs(matrix).max())
    own = OwnChannel(gram, rng.standard_normal((CHANNELS, 2, TAPS)).astype(np.float32))
    alone = np.einsum("crk,ckdl->crdl", own.taps, shaped).reshape(2 * CHANNELS, CHANNELS, TAPS)
    assert apart(own.gram(), np.einsum("ndl,drl->ndr", alone, own.taps).reshape(len(alone), -1)) < 1e-5
    mix = rng.standard_normal((len(alone), len(alone)))
    mixed = np.einsum("crn,ncl->crl", mix.reshape(CHANNELS, 2, -1), alone)
    assert apart(own.mixed(mix), mixed) < 1e-5
    taps, channels = rng.standard_normal((TAPS, TAPS)), rng.standard_normal((CHANNELS, CHANNELS))
    assert apart(gram.channel_part(taps), np.einsum("ckdl,kl->cd", shaped, taps)) < 1e-4
    assert apart(gram.tap_part(channels), np.einsum("ckdl,cd->kl", shaped, channels)) < 1e-4
    right = rng.standard_normal((3, CHANNELS, TAPS))
    assert apart(gram.times(gram.solve(right, right)), right) < 2e-3
    mix = np.linalg.qr(rng.standard_normal((CHANNELS, 2)))[0].T
    kernel = rng.standard_normal((3, 2, TAPS))
    behind = mix @ gram.times(mix.T @ kernel)
    assert apart(gram.mixed(mix).times(kernel), behind) < 1e-5


@pytest.mark.parametrize("rounding", [0.0, 1e-3])
@pytest.mark.parametrize(("form", "rank"), [("pw_dw_pw", 9), ("dw_pw", 2)])
def test_a_search_that_writes_no_feature_out_has_the_value_and_slope_of_one_that_does(
    form: str, rank: int, rounding: float
) -> None:
    geometry = long_conv(pads=(8, 3), channels=6)
    inputs = signals(SIGNALS, 6, 60)
    rng = np.random.default_rng(2)
    weight = rng.standard_normal(geometry.weight_shape)
    moments = by_lags(inputs, outputs_of(inputs, weight, geometry), geometry, weight)
    problem = make_problem(moments, weight, geometry, 1e-2, rounding=rounding)
    every = np.eye(6 * TAPS).reshape(6 * TAPS, 6, TAPS)
    (short,) = FORMS[form].search(problem, rank)
    (long,) = FORMS[form].search(replace(problem, gram=problem.times_gram(every).reshape(6 * TAPS, -1)), rank)
    assert type(short) is not type(long)
    (start,) = short.starts()
    for point in (long.point(start), short.point(start)):
        one, other = short.evaluate(point), long.evaluate(point)
        assert one.value == pytest.approx(other.value, rel=1e-4)
        assert apart(one.gradient, other.gradient) < 1e-3
    assert apart(short.point(start), long.point(start)) < 1e-3
    assert apart(reconstruct(short.factors(point)), reconstruct(long.factors(point))) < 1e-3


@pytest.mark.parametrize("changed", [False, True], ids=["same inputs", "inputs that earlier layers have changed"])
@pytest.mark.parametrize("form", FORMS)
def test_a_fit_by_lags_errs_as_little_on_new_signals_as_one_to_patches(form: str, changed: bool) -> None:
    geometry = long_conv(stride=2, channels=12)
    rng = np.random.default_rng(3)
    weight = lfilter([1], [1, -0.7], rng.standard_normal(geometry.weight_shape), axis=2)
    clean = signals(2 * SIGNALS, 12, 200)
    made = outputs_of(clean, weight, geometry)
    seen = clean + 0.15 * np.roll(clean, 1, 1) if changed else clean
    fitted, new = slice(None, SIGNALS), slice(SIGNALS, None)
    judge = by_patches(seen[new], made[new], geometry)

    def error(moments: PatchMoments) -> float:
        problem = make_problem(moments, weight, geometry, 1e-2)
        kernel = reconstruct(fit(problem, form, rank_for_share(form, geometry, 0.3)).factors)
        rows = kernel.reshape(OUTPUTS, -1)
        shift = judge.target_mean - rows @ judge.mean - fitted_bias(moments, kernel)
        assert judge.cross is not None
        lost = np.sum((judge.times(rows) - 2 * judge.cross) * rows) + judge.target_variance.sum() + shift @ shift
        return float(lost / judge.target_variance.sum())

    whole = error(by_patches(seen[fitted], made[fitted], geometry))
    # A closed fit behind the leading channels is no search; nothing else may lose more than sampling makes.
    assert error(by_lags(seen[fitted], made[fitted], geometry, weight)) < 1.05 * whole


def test_long_kernels_are_along_one_axis_and_have_many_terms() -> None:
    assert is_long(long_conv(channels=128))
    assert is_long(ConvGeometry(128, 8, (64, 1), (1, 1), (1, 1), (0,) * 4))
    assert not is_long(long_conv(channels=16))
    assert not is_long(ConvGeometry(256, 8, (5, 5), (1, 1), (1, 1), (0,) * 4))
    assert not is_long(ConvGeometry(512, 8, (9,), (1,), (1,), (0, 0)))


def test_signals_along_one_axis_of_a_map_are_those_of_its_lines() -> None:
    """crepe holds a signal as a map of one column."""
    lines = ConvGeometry(CHANNELS, OUTPUTS, (TAPS,), (2,), (1,), (8, 8))
    columns = ConvGeometry(CHANNELS, OUTPUTS, (TAPS, 1), (2, 1), (1, 1), (8, 0, 8, 0))
    weight = np.random.default_rng(1).standard_normal(lines.weight_shape)
    inputs = signals(12, CHANNELS, 64)
    made = outputs_of(inputs, weight, lines)
    found = []
    for geometry, parts in ((lines, 1), (columns, 2)):
        adder = SignalMoments(geometry, weight)
        stacked = [np.stack(np.split(values, parts), axis=-1) for values in (inputs, made)]
        adder.add(*(values[..., 0] if parts == 1 else values for values in stacked))
        found.append(written(adder.moments()))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 * np.abs(found[0]).max())


def test_few_windows_add_up_to_how_often_two_taps_are_inside() -> None:
    inside = np.abs(np.arange(100)[:, None] + np.arange(31) - 65) <= 50
    shares = inside.T.astype(np.float64) @ inside / 100
    windows = windows_of(shares)
    assert len(windows) <= 6
    assert apart(windows.T @ windows, shares) < 0.02


def test_zeros_that_a_pad_before_the_convolution_writes_are_taken_for_padding() -> None:
    """crepe pads in a node of its own; the convolution itself has no pads then."""
    padding, bare = long_conv(pads=(8, 3)), long_conv(pads=(0, 0))
    weight = np.random.default_rng(1).standard_normal(padding.weight_shape)
    inputs = signals(12, CHANNELS, 64)
    inputs[0, :, 0] = inputs[0, :, -1] = 1  # a signal that ends in silence is no padding
    made = outputs_of(inputs, weight, padding)
    found = []
    for geometry, given in ((padding, inputs), (bare, np.pad(inputs, [(0, 0), (0, 0), (8, 3)]))):
        adder = SignalMoments(geometry, weight)
        adder.add(given, made)
        found.append(written(adder.moments()))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 * np.abs(found[0]).max())
