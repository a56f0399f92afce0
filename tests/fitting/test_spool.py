"""Arrays are held as long as somebody needs them, in memory or on disk, and never longer."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from sepconvert.fitting.spool import Spool


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("budget", [10**6, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_what_is_kept_comes_back_unchanged(scratch: Path, budget: int, dtype: type) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    with Spool(budget) as spool:
        ticket = spool.keep(array)
        np.testing.assert_array_equal(spool.load(ticket), array)
        assert (ticket.shape, ticket.dtype, ticket.nbytes) == (array.shape, array.dtype, array.nbytes)


def test_only_what_exceeds_the_budget_is_written_to_disk(scratch: Path) -> None:
    arrays = [np.full(25, i, np.float32) for i in range(4)]
    with Spool(250) as spool:
        tickets = [spool.keep(array) for array in arrays]
        assert (spool.resident_bytes, spool.spilled_bytes) == (200, 200)
        spool.release(tickets[0])
        tickets.append(spool.keep(np.full(25, 9, np.float32)))
        assert (spool.resident_bytes, spool.spilled_bytes, spool.peak_bytes) == (200, 200, 200)
        for ticket, value in zip(tickets[1:], (1, 2, 3, 9), strict=True):
            np.testing.assert_array_equal(spool.load(ticket), np.full(25, value))


def test_a_shared_array_goes_with_its_last_holder(scratch: Path) -> None:
    with Spool(0) as spool:
        ticket = spool.keep(np.ones(3))
        spool.share(ticket)
        spool.release(ticket)
        assert spool.load(ticket).sum() == 3
        spool.release(ticket)
        with pytest.raises(FileNotFoundError):
            spool.load(ticket)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_stays_on_disk_after_an_error_or_ctrl_c(scratch: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with Spool(0) as spool:
            spool.keep(np.ones(3))
            assert list(scratch.iterdir())
            raise error

    with pytest.raises(error):
        interrupted()
    assert not list(scratch.iterdir())
