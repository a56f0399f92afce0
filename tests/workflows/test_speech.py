"""A network for signals with long kernels, trained on tones: rewritten with data in seconds, no worse at its task."""

from pathlib import Path

import pytest

from tests.benchmarks.speech import Case, Row, measure, quartz

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")]


@pytest.fixture(scope="module")
def case() -> Case:
    """Kernels of 33 and 39 taps, one with a stride, one dilated, on 64 channels: 2,112 and 2,496 terms a patch."""
    found = quartz(samples=900, steps=80, kernels=(33, 39, 33))
    assert measure_accuracy(found) > 0.6  # of twelve classes
    return found


def measure_accuracy(case: Case) -> float:
    import torch

    with torch.no_grad():
        return case.score(case.network(torch.from_numpy(case.test["x"])).numpy())


def test_long_kernels_are_fitted_with_a_tenth_of_the_multiply_adds_and_answer_as_before(
    case: Case, tmp_path: Path
) -> None:
    row: Row = measure(case, tmp_path, timed=False, macs=0.1)
    assert row.macs_share <= 0.1
    assert row.error is not None
    assert row.error < 0.05
    assert row.after > row.before - 0.02


def test_fine_tuning_lowers_the_error_of_long_kernels_that_keep_little(case: Case, tmp_path: Path) -> None:
    fitted = measure(case, tmp_path, timed=False, form="dw-pw", rank=1)
    tuned = measure(case, tmp_path, 60, timed=False, form="dw-pw", rank=1)
    assert fitted.error is not None
    assert tuned.error is not None
    assert tuned.error < 0.9 * fitted.error
