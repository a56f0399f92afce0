"""Fits run on one BLAS thread, leave the others as they were, and share large products without changing them."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from sepconvert.separable.threads import (
    LEAST_STRIP,
    SYMMETRIC_STRIPS,
    one_blas_thread,
    product,
    symmetric_product,
)

ULPS = 32  # of the products' size: sums of at most 900 terms, in another order


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_is_held_to_one_thread_inside_only() -> None:
    import scipy.linalg  # noqa: F401

    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("size", [1, LEAST_STRIP, LEAST_STRIP + 1, SYMMETRIC_STRIPS * LEAST_STRIP + 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_symmetric_product_is_the_product_and_exactly_symmetric(size: int, dtype: type) -> None:
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((size, 300)).astype(dtype)
    root = rng.standard_normal((300, 300)).astype(dtype)
    gram = (root @ root.T / 300).astype(dtype)
    left = rows @ gram
    found, plain = symmetric_product(left, rows), left @ rows.T
    np.testing.assert_array_equal(found, found.T)
    assert found.dtype == dtype
    assert np.abs(found - plain).max() <= ULPS * np.finfo(dtype).eps * np.abs(plain).max() * np.sqrt(300)


def test_infinities_that_a_caller_expects_are_no_warning_in_a_thread_either() -> None:
    large = np.full((700, 700), 1e200)
    with one_blas_thread(3), np.errstate(over="ignore", invalid="ignore"):
        assert np.isinf(product(large, large)).all()
        assert np.isinf(symmetric_product(large, large)).all()


@pytest.mark.parametrize(("rows", "inner", "columns"), [(700, 400, 500), (30, 900, 4000), (4000, 900, 30), (3, 5, 7)])
def test_a_product_is_the_product_and_the_same_bytes_by_one_thread_and_by_three(
    rows: int, inner: int, columns: int
) -> None:
    """Whoever shares the work, a model must not depend on how many cores the machine has."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((rows, inner)), rng.standard_normal((inner, columns))
    square = rng.standard_normal((900, 500)).astype(np.float32)
    with one_blas_thread():
        alone, symmetric = product(left, right), symmetric_product(square, square)
    with one_blas_thread(3):
        shared, symmetric_shared = product(left, right), symmetric_product(square, square)
    np.testing.assert_allclose(alone, left @ right, rtol=0, atol=ULPS * np.finfo(float).eps * np.sqrt(inner) * 5)
    assert alone.tobytes() == shared.tobytes()
    assert symmetric.tobytes() == symmetric_shared.tobytes()
