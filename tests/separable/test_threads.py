"""Fits run on one BLAS thread, and leave the others as they were."""

from threadpoolctl import threadpool_info

from sepconvert.separable.threads import one_blas_thread


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_is_held_to_one_thread_inside_only() -> None:
    import scipy.linalg  # noqa: F401

    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
