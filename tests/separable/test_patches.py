import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.geometry import ConvGeometry, output_spatial, resolved_pads
from sepconvert.separable.patches import gather_outputs, gather_patches, sample_positions
from tests.separable.strategies import geometries, seeds, weight_of

auto_pads = st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])


def convolve(activations, weight, geometry):
    """Direct convolution by loops over taps, independent of the code under test."""
    sizes = activations.shape[2:]
    pads = resolved_pads(geometry, sizes)
    half = len(sizes)
    padded = np.pad(activations, [(0, 0), (0, 0), *zip(pads[:half], pads[half:], strict=True)])
    out = output_spatial(geometry, sizes)
    result = np.zeros((len(activations), len(weight), *out))
    for tap in np.ndindex(*geometry.kernel):
        window = tuple(
            slice(t * d, t * d + s * (o - 1) + 1, s)
            for t, d, s, o in zip(tap, geometry.dilation, geometry.stride, out, strict=True)
        )
        result += np.einsum("mc,nc...->nm...", weight[(slice(None), slice(None), *tap)], padded[:, :, *window])
    return result


@settings(deadline=None, max_examples=80)
@given(
    geometry=geometries(largest=4), auto=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]), seed=seeds
)
def test_a_patch_times_the_kernel_is_the_convolutions_output(geometry, auto, seed):
    rng = np.random.default_rng(seed)
    geometry = ConvGeometry(
        geometry.in_channels,
        geometry.out_channels,
        geometry.kernel,
        geometry.stride,
        geometry.dilation,
        geometry.pads if auto == "NOTSET" else tuple(0 for _ in geometry.pads),
        auto,
    )
    spans = [d * (k - 1) + 1 for d, k in zip(geometry.dilation, geometry.kernel, strict=True)]
    sizes = tuple(max(13, span) + int(rng.integers(5)) for span in spans)
    activations = rng.standard_normal((3, geometry.in_channels, *sizes))
    weight = weight_of(geometry, rng)
    outputs = convolve(activations, weight, geometry)
    positions = sample_positions(3, outputs.shape[2:], 5, rng)
    patches = gather_patches(activations, geometry, positions)
    assert patches.shape == (positions.size, geometry.in_channels, geometry.taps)
    product = patches.reshape(len(patches), -1) @ weight.reshape(len(weight), -1).T
    np.testing.assert_allclose(product, gather_outputs(outputs, positions), rtol=1e-10, atol=1e-10)


def test_positions_are_sorted_unique_and_seeded():
    one, two = (sample_positions(4, (9, 11), 30, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.shape == (4, 30)
    assert all(len(set(row)) == 30 and list(row) == sorted(row) and max(row) < 99 for row in one.tolist())
    assert not np.array_equal(one[0], one[1])


def test_asking_for_more_positions_than_there_are_takes_all():
    assert np.array_equal(sample_positions(2, (3,), 10, np.random.default_rng(0)), [[0, 1, 2], [0, 1, 2]])


def test_half_precision_activations_are_gathered_in_single_precision():
    geometry = ConvGeometry(2, 1, (3,), (1,), (1,), (1, 1))
    activations = np.ones((1, 2, 4), np.float16)
    assert gather_patches(activations, geometry, np.array([[0]])).dtype == np.float32
    assert gather_outputs(activations, np.array([[0, 3]])).dtype == np.float32
