"""Options of a site: what is faster here, in the lowerings there are; and the sentence where nothing is."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from sepconvert.planning.candidates import site_candidates
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.planning.latencies import Latencies, TimeSources
from sepconvert.planning.latency_table import Pair, Setting, SiteTimes, Table, Workload
from sepconvert.planning.options import FASTER, options_by_cost, options_by_latency
from sepconvert.planning.plans import SiteOption
from sepconvert.planning.uniform import out_of_reach
from sepconvert.separable.forms import cost_of, lowerings
from sepconvert.separable.scheme import Scheme
from tests.planning.networks import make_site

SETTING = Setting("onnxruntime 1.32.0", "cpu", "CPUExecutionProvider", "a CPU", 1)
DENSE_MS = 0.31
SITE = make_site("conv")
WORKLOAD = Workload(SITE.geometry)
WORKLOADS = {SITE.output: [WORKLOAD]}


def falling(forms: Sequence[str]) -> Mapping[str, SiteProfile]:
    """Errors that fall with the rank, every form's the same at the same place in its ladder."""
    curves = {}
    for form in forms:
        ranks = tuple(candidate.rank for candidate in site_candidates(SITE, (form,)))
        curves[form] = ErrorCurve(ranks, tuple(0.5 / (place + 1) for place in range(len(ranks))))
    return {SITE.output: SiteProfile(curves)}


def told(forms: Sequence[str], ratio: Callable[[Scheme], float]) -> Latencies:
    """Times from a table; ``ratio`` is a way's share of the dense convolution's."""
    ways = [
        Scheme(candidate.form, candidate.rank, lowering)
        for candidate in site_candidates(SITE, forms)
        for lowering in lowerings(candidate.form, candidate.rank)
    ]
    pairs = {way: Pair(ratio(way) * DENSE_MS, DENSE_MS) for way in ways}
    table = Table(SETTING, (SiteTimes(WORKLOAD, pairs, dict.fromkeys(ways, "measured")),))
    return Latencies(TimeSources(SETTING, table=table, timing=False), 0, pytest.fail)


def options_of(
    form: str, ratio: Callable[[Scheme], float], lowering: str = "auto"
) -> tuple[list[SiteOption], dict[str, str]]:
    (options,), reasons = options_by_latency(
        [SITE], WORKLOADS, [form], falling([form]), told([form], ratio), lowering
    )  # fmt: skip
    return options, reasons


def test_where_nothing_is_faster_the_site_has_no_option_and_the_reason_names_both_times() -> None:
    (dense,), reasons = options_of("dw_pw", lambda way: (0.35 + 0.01 * (way.rank - 1)) / 0.31)
    assert dense.scheme is None
    assert reasons == {SITE.output: "no form is clearly faster: 0.35 ms at best, 0.31 ms as it is"}


@pytest.mark.parametrize(
    ("ms", "reason"),
    [
        (0.31, "as fast as it is: 0.31 ms"),
        (0.30999, "as fast as it is: 0.31 ms"),
        (0.308, "no form is clearly faster: 0.308 ms at best, 0.31 ms as it is"),
    ],
)
def test_a_site_is_not_called_faster_where_it_is_not(ms: float, reason: str) -> None:
    _, reasons = options_of("dw_pw", lambda _: ms / 0.31)
    assert reasons == {SITE.output: reason}


@pytest.mark.parametrize(
    ("best", "words"), [(0.4321, "keeps 0.432 of its MACs"), (0.9999, "saves no MACs"), (1.2, "saves no MACs")]
)
def test_nobody_is_told_to_ask_for_what_cannot_be_asked(best: float, words: str) -> None:
    text = str(out_of_reach("macs", 0.3, best, "rank 1"))
    assert words in text
    assert "ask for 1" not in text


def test_a_candidate_that_is_faster_by_less_than_timings_differ_is_no_option() -> None:
    largest = max(candidate.rank for candidate in site_candidates(SITE, ["spatial"]))
    options, reasons = options_of("spatial", lambda way: (1 + FASTER) / 2 * way.rank / largest)
    ranks = [option.scheme.rank for option in options if option.scheme is not None]
    assert ranks
    assert largest not in ranks
    assert options[0].ms == DENSE_MS
    assert reasons == {}


def test_of_equally_fast_candidates_the_one_that_loses_least_is_the_only_option() -> None:
    (_, option), _ = options_of("spatial", lambda _: 0.5)
    assert option.scheme is not None
    assert option.scheme.rank == max(candidate.rank for candidate in site_candidates(SITE, ["spatial"]))
    assert option.saved_ms == pytest.approx(0.5 * DENSE_MS)
    assert option.source == "table"


def test_a_lowering_that_was_asked_for_is_the_only_one_where_there_is_a_choice() -> None:
    def ratio(way: Scheme) -> float:
        return 0.1 * way.rank + (0.05 if way.lowering == "concat" else 0.0)

    lowerings = {option.scheme.lowering for option in options_of("dw_pw", ratio)[0][1:] if option.scheme.rank > 1}
    assert lowerings
    assert "concat" not in lowerings
    asked = options_of("dw_pw", ratio, "concat")[0][1:]
    assert {option.scheme.lowering for option in asked if option.scheme.rank > 1} == {"concat"}


def test_a_lowering_that_was_asked_for_is_taken_without_times_too() -> None:
    ((_, *options),) = options_by_cost([SITE], ["dw_pw"], falling(["dw_pw"]), "concat")
    assert {o.scheme.lowering for o in options if o.scheme is not None and o.scheme.rank > 1} == {"concat"}


def test_options_by_cost_never_cost_more_and_lose_more_than_another() -> None:
    forms = ["dw_pw", "pw_dw_pw"]
    ((dense, *options),) = options_by_cost([SITE], forms, falling(forms))
    assert dense.scheme is None
    schemes = [(o.error, o.scheme) for o in options if o.scheme is not None]
    costs = [(damage, cost_of(s.form, SITE.geometry, s.rank)) for damage, s in schemes]
    figures = [(damage, cost.macs, cost.params) for damage, cost in costs]
    assert figures
    for figure in figures:
        for other in figures:
            assert other == figure or not all(a <= b for a, b in zip(other, figure, strict=True))
