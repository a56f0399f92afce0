"""One thread for the linear algebra of fits.

The matrices of a fit are many and small: on two cores BLAS's threads made a fit seven times slower than one thread, by
waiting for each other, and the order of their sums differed from run to run.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold numpy's and scipy's BLAS to one thread inside the block."""
    import scipy.linalg  # noqa: F401 - loads scipy's own BLAS, so that it is there to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
