"""Threads for the linear algebra of fits.

The matrices of a fit are many and mostly small: on two cores BLAS's own threads made a fit seven times slower than one
thread, by waiting for each other, and the order of their sums differed from run to run. So BLAS has one thread, and a
large product is cut into strips, each a product of its own. Strips are cut by the product's shape alone: its bytes do
not depend on how many threads share them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# Products of at least so many multiply-adds are cut: about three milliseconds of work.
LARGE = 1e8
STRIPS = 4
# A symmetric product is cut into more strips, of which little more than the lower half is computed.
SYMMETRIC_STRIPS, LEAST_STRIP = 6, 64
MOST_THREADS = STRIPS

Number = TypeVar("Number", bound=np.floating)

_crew: ContextVar[ThreadPoolExecutor | None] = ContextVar("crew", default=None)


@contextmanager
def one_blas_thread(threads: int = 1) -> Iterator[None]:
    """Hold numpy's and scipy's BLAS to one thread inside the block, and let ``threads`` share large products."""
    import scipy.linalg  # noqa: F401 - loads scipy's own BLAS, so that it is there to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(max(threads, 1)) as pool:
        token = _crew.set(pool if threads > 1 else None)
        try:
            yield
        finally:
            _crew.reset(token)


def cores() -> int:
    """How many threads may share large products: as many as there are cores for this process, at most four."""
    from joblib import cpu_count

    return min(int(cpu_count()), MOST_THREADS)


def product(left: NDArray[Number], right: NDArray[Number]) -> NDArray[Number]:
    """``left @ right`` of matrices (m, k) and (k, n); a large one in strips of its longer side."""
    rows, inner, columns = *left.shape, right.shape[1]
    if rows * inner * columns < LARGE or max(rows, columns) < STRIPS * LEAST_STRIP:
        plain: NDArray[Number] = left @ right
        return plain
    found: NDArray[Number] = np.empty((rows, columns), dtype=np.result_type(left, right))

    def strip(part: slice) -> None:
        if columns >= rows:
            found[:, part] = left @ right[:, part]
        else:
            found[part] = left[part] @ right

    _share(strip, _slices(max(rows, columns), STRIPS))
    return found


def symmetric_product(left: NDArray[Number], right: NDArray[Number]) -> NDArray[Number]:
    """``left @ right.T`` (n, n) that is known to be symmetric: little more than the lower half is computed."""
    size = len(left)
    found = np.empty((size, size), dtype=left.dtype)

    def strip(part: slice) -> None:
        found[part, : part.stop] = left[part] @ right[: part.stop].T
        found[: part.start, part] = found[part, : part.start].T
        square = found[part, part]
        square[...] = (square + square.T) / 2

    # The widest first, so that threads end together.
    _share(strip, _slices(size, SYMMETRIC_STRIPS)[::-1], large=size * size * left.shape[1] >= 2 * LARGE)
    return found


def _slices(size: int, count: int) -> list[slice]:
    step = max(LEAST_STRIP, -(-size // count))
    return [slice(first, min(first + step, size)) for first in range(0, size, step)]


def _share(work: Callable[[slice], None], strips: Sequence[slice], *, large: bool = True) -> None:
    """Do the work on every strip, by several threads if there are some and it is worth it."""
    crew, floating = _crew.get(), np.geterr()

    def warned_alike(part: slice) -> None:
        with np.errstate(**floating):  # which every thread has of its own
            work(part)

    for _ in map(work, strips) if crew is None or not large else crew.map(warned_alike, strips):
        pass
