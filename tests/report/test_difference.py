"""What a measured ratio is said to be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepconvert.record import FASTER, NONE, SLOWER, Latency, Timing, tell_apart
from sepconvert.workflows.gate import Gate, check_gate, parse_gate


@pytest.mark.parametrize(
    ("ratio", "interval", "scatter", "said"),
    [
        (1.5, [1.4, 1.6], 0.02, FASTER),
        (1 / 1.5, [1 / 1.6, 1 / 1.4], 0.02, SLOWER),
        (1.02, [0.99, 1.05], 0.0, NONE),  # the interval holds 1
        (1.02, [1.01, 1.03], 0.03, NONE),  # so much do equal models differ
        (0.98, [0.97, 0.99], 0.03, NONE),
        (1.009, [1.008, 1.010], 0.0, NONE),  # nobody's per cent
        (3.95, [3.7, 4.2], None, FASTER),  # a record that knows no scatter
        (1.5, None, 0.01, NONE),
        (1.5, [1.4, float("nan")], 0.01, NONE),
        (float("inf"), [1.0, float("inf")], 0.01, NONE),
        (0.0, [0.0, 0.0], 0.0, NONE),
        (None, None, None, None),
    ],
)
def test_a_ratio_is_a_difference_beyond_interval_and_scatter(
    ratio: float | None, interval: list[float] | None, scatter: float | None, said: str | None
) -> None:
    assert tell_apart(ratio, interval, scatter) == said


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1))
def test_what_is_faster_one_way_is_slower_the_other(ratio: float, width: float, scatter: float) -> None:
    interval = [ratio / (1 + width), ratio * (1 + width)]
    turned = [1 / interval[1], 1 / interval[0]]
    other = {FASTER: SLOWER, SLOWER: FASTER, NONE: NONE}
    edge = abs(abs(ratio - 1) - scatter) < 1e-6 or any(abs(end - 1) < 1e-9 for end in interval)
    assert edge or tell_apart(1 / ratio, turned, scatter) == other[tell_apart(ratio, interval, scatter) or NONE]


def timed(speedup: float, width: float = 0.03, scatter: float = 0.01) -> Latency:
    interval = [speedup / (1 + width), speedup * (1 + width)]
    timing = Timing(1.0, 1.0, 1.0, [1.0])
    return Latency("cpu", "CPU", True, 1, {}, timing, timing, speedup, interval, True, [], scatter)


def test_the_conclusion_follows_the_figures() -> None:
    assert timed(1.2).difference == FASTER
    assert replace(timed(1.2), scatter=0.3).difference == NONE


@pytest.mark.parametrize(
    ("speedup", "width", "limit", "fails"),
    [
        (1.0, 0.03, 1.0, False),
        (0.98, 0.03, 1.0, False),  # noise fails no gate
        (0.9, 0.03, 1.0, True),
        (0.9, 0.03, 1.2, False),
        (1.9, 0.03, 0.5, True),
        (1.98, 0.03, 0.5, False),
        (1.0, 0.9, 1.0, True),  # nothing is known
        (9.0, 0.9, 1.0, False),  # a wide interval, but all of it below the limit
    ],
)
def test_a_latency_gate_fails_what_is_certainly_above_it_or_not_known(
    records: Any, speedup: float, width: float, limit: float, fails: bool
) -> None:
    record = records.compare(latency=[timed(speedup, width)])
    if not fails:
        check_gate(record, Gate(latency=limit))
        return
    with pytest.raises(Exception, match=r"^gate failed: latency on cpu is (0|1)\.\d+ of|too uncertain"):
        check_gate(record, Gate(latency=limit))


@pytest.mark.parametrize("text", ["latency=0", "latency=-1", "latency=nan", "error=nan", "error=-0.1", "speed=1"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is not understood"):
        parse_gate(text)
    with pytest.raises(Exception, match="limits error twice"):
        parse_gate("error=0.1,latency=1,error=0.2")
