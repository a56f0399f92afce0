"""What to do next, after a rewrite, a comparison or a sweep: at most three sentences, each from figures of the record.

Rules are asked in order of what they are worth to a reader; each says something or None. The limits are those of the
verdict (``claims.py``), the figures of other networks those of ``reports/README.md``.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from sepconvert.record import FASTER, Record
from sepconvert.report import accuracy, claims, figures
from sepconvert.report.recommended import recommend

MOST = 3
_MANY = 0.3  # share of the multiply-adds
_WORTH_MORE = 1.1  # a smaller speed-up does not say that there is more to be had
_CAME_BACK = 0.005  # share of top-1; others came back to within 0.003, which tells little to who lost little
_MORE = 1.3  # how much more speed to ask for, where there is room

Rule = Callable[[Record], str | None]


def next_steps(record: Record) -> list[str]:
    """Return what to do next, the most useful first; none where nothing follows from the figures."""
    return list(_said(record, _BY_COMMAND.get(record.command, ())))[:MOST]


def _said(record: Record, rules: Sequence[Rule]) -> Iterator[str]:
    for rule in rules:
        text = rule(record)
        if text is not None:
            yield text


def _drop(record: Record) -> float | None:
    """Points of top-1 lost, as a share; None without labels."""
    found = record.fidelity
    if found is None or found.top1_before is None or found.top1_after is None:
        return None
    return found.top1_before - found.top1_after


def _error(record: Record) -> float | None:
    """The error that advice may be built on; None where it is not known, or is that of random inputs."""
    found = record.fidelity
    worst = None if found is None or accuracy.on_random(found) else found.worst
    return None if worst is None else worst.decisive_error


def _loses(record: Record) -> bool:
    """Whether a loss is worth doing something about."""
    drop, error = _drop(record), _error(record)
    return drop > accuracy.SMALL_DROP / 2 if drop is not None else error is not None and error > accuracy.SMALL_ERROR


def _is_faster(record: Record) -> bool:
    return bool(record.latency) and record.latency[0].difference == FASTER


def _gains_nothing(record: Record) -> bool:
    """Whether layers were chosen by their times, and the whole is not measurably faster for all that."""
    timed = record.plan is not None and "saved_ms" in (record.plan.predicted or {})
    return timed and bool(record.latency) and record.latency[0].stable is True and not _is_faster(record)


def _is_fitted(record: Record) -> bool:
    """Whether nothing is known about other inputs than those that were fitted to."""
    return record.fidelity is not None and record.fidelity.fitted


def _without_data(record: Record) -> str | None:
    if record.inputs_given is not None or record.command != "rewrite":
        return None
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    if not rewritten or any(site.error_calibration is not None for site in rewritten):
        return None
    return (
        "Fit the layers to what they see: give --data, a few hundred varied, unlabelled inputs. From the weights alone "
        "the loss is many times larger."
    )


def _fine_tune(record: Record) -> str | None:
    if record.fine_tune or not _loses(record) or _gains_nothing(record):
        return None
    drop, error = _drop(record), _error(record)
    aim = f"lower the relative error of {figures.error(error)}" if drop is None else f"win back {_cost(record)}"
    assert record.fidelity is not None
    if error is not None and error > accuracy.LARGE_ERROR:
        return "Or train it: rewrite --fine-tune needs no labels. How much of so large a loss comes back is not known."
    classifiers = (
        " Two Fashion-MNIST networks with a quarter of their multiply-adds came back to within 0.2 and 0.3 points of "
        "top-1."
        if record.fidelity.top1_agreement is not None and (drop is None or drop > _CAME_BACK)
        else ""
    )
    add = "add --fine-tune" if record.command == "rewrite" else "rewrite it with --fine-tune"
    return f"To {aim}, {add}, which needs no labels.{classifiers}"


def _thoroughly(record: Record) -> str | None:
    if not record.quick or not _loses(record):
        return None
    return "Leave --quick away before anything else: a first answer loses more than the same budget has to."


def _gentler(record: Record) -> str | None:
    error = _error(record)
    if error is None or error <= accuracy.LARGE_ERROR:
        return None
    return (
        f"A relative error of {figures.error(error)} is beyond what most tasks bear: ask rewrite for less. "
        "--max-error 0.01 is as fast as a small error allows."
    )


def _few_inputs(record: Record) -> str | None:
    needed, given = record.inputs_needed, record.inputs_given
    if not needed or not given or needed <= given:
        return None
    return f"Give {needed} calibration inputs instead of {given}: so many show every layer enough to be fitted well."


def _not_faster(record: Record) -> str | None:
    if not record.latency or record.latency[0].after is None or _is_faster(record):
        return None
    if record.latency[0].stable is False:
        return "Measure again on an idle machine (sepconvert compare): other programs disturbed the timing."
    if _gains_nothing(record):
        return "Keep the original: this loses and is not measurably faster. --speedup asks for more, at a larger loss."
    before, after = record.totals.before.macs, None if record.totals.after is None else record.totals.after.macs
    if before is None or after is None or after >= before:
        return None
    asked = "--speedup" if record.command == "rewrite" else "sepconvert rewrite --speedup"
    return f"Ask for {asked}, which times every candidate here: fewer multiply-adds alone did not make it faster."


def _mixing(record: Record) -> str | None:
    """Pointwise and linear layers that were not asked for hold much of what is left."""
    total = record.totals.before.macs
    left_out = {skip.output for skip in record.skipped if skip.kind in ("pointwise", "linear")}
    if not total or not left_out or not record.totals.after:
        return None
    sites = sum(site.macs or 0 for site in record.sites)
    others = record.totals.before.site_macs
    share = 1 - (others if others is not None else sites) / total
    if share < _MANY:
        return None
    return (
        f"{figures.percent(share, decimals=0)} of the multiply-adds are in layers that --form auto leaves alone: "
        "--form any rewrites wide pointwise and linear ones too."
    )


def _no_test_data(record: Record) -> str | None:
    found = record.fidelity
    if found is None or not accuracy.on_random(found):
        return None
    data = "--test-data, none of them in --data" if record.command == "rewrite" else "--data"
    return f"Judge it on real inputs: give {data}. Random numbers say little."


def _room(record: Record) -> str | None:
    if record.command != "rewrite" or not _is_faster(record) or _loses(record) or _error(record) is None:
        return None
    if _is_fitted(record):
        return None
    speedup = record.latency[0].speedup
    assert speedup is not None
    if speedup < _WORTH_MORE:
        return None
    if record.plan is not None and not record.plan.budget.keys().isdisjoint(("max_error", "max_drop")):
        return "It is about as fast as the limit on its loss allows; sepconvert sweep shows what more speed costs."
    more = math.ceil(speedup * _MORE * 10) / 10
    about = "" if record.latency[0].stable else "about "
    return (
        f"There is room for more: {about}{figures.ratio(speedup)} cost {_cost(record)}. Try --speedup {more:g}, or "
        "sepconvert sweep to see what each speed-up costs."
    )


def _cost(record: Record) -> str:
    drop, error = _drop(record), _error(record)
    if drop is None:
        return f"a relative error of {figures.error(error)}"
    return "no top-1" if drop <= 0 else f"{figures.points(-drop).lstrip('−-')} of top-1"


def _int8(record: Record) -> str | None:
    int8 = record.plan is not None and record.plan.alternatives
    if record.command != "rewrite" or int8 or not _is_faster(record) or record.latency[0].device != "cpu":
        return None
    return "Add --int8: it times the model in INT8 too, alone and rewritten, and writes what serves best."


def _use(record: Record) -> str | None:
    """Where nothing speaks against it."""
    if record.output is None or record.command != "rewrite" or _is_fitted(record) or _gains_nothing(record):
        return None
    if record.fidelity is not None and accuracy.on_random(record.fidelity):
        return None
    if accuracy.quality(record).tone == claims.BAD:
        return None
    return f"Use {record.output.path} in the original's place: inputs and outputs have the same names and shapes."


def _sweep(record: Record) -> str | None:
    found = recommend(record)
    if found is None:
        return "No speed-up of this sweep keeps the error small: try smaller --budgets, or --form any."
    return f"Take {found.point.label}: {found.why}" + (f" Its file is {found.point.file}." if found.point.file else "")


_REWRITE: tuple[Rule, ...] = (
    _without_data, _thoroughly, _gentler, _not_faster, _fine_tune, _no_test_data, _few_inputs, _mixing, _room, _int8,
    _use,
)  # fmt: skip
_BY_COMMAND: dict[str, tuple[Rule, ...]] = {
    "rewrite": _REWRITE,
    "compare": (_gentler, _fine_tune, _not_faster, _no_test_data),
    "sweep": (_sweep,),
}
