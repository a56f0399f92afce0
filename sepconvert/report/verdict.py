"""The verdict: a few plain sentences at the top of the page, made of claims. No loss is left out of the headline."""

from collections import Counter
from dataclasses import dataclass

from sepconvert.record import FASTER, Record, SweepPoint
from sepconvert.report import accuracy, claims, figures, metrics, tuning
from sepconvert.report.alternatives import chosen_claim
from sepconvert.report.claims import BAD, GOOD, MIXED, NEUTRAL
from sepconvert.report.skips import others
from sepconvert.report.summary import separable_share


@dataclass(frozen=True, slots=True)
class Verdict:
    """``headline`` is the answer in one line, ``sentences`` say it in full; ``tone`` is good, mixed, bad or neutral."""

    headline: str
    sentences: tuple[str, ...]
    tone: str


def judge(record: Record) -> Verdict:
    """Return the verdict of a record, whichever command made it."""
    if record.sweep is not None:
        return _judge_sweep(record)
    if record.totals.after is None and record.output is None:
        return _judge_survey(record)
    return _judge_change(record)


def _judge_change(record: Record) -> Verdict:
    speeds, quality = claims.speed(record), accuracy.quality(record)
    unstable = any(timed.device == speeds[0].device and not timed.stable for timed in record.latency)
    headline = [speeds[0].short, *["the timing was unstable"] * unstable, quality.short]
    headline += [f"{claim.short} on {claim.device}" for claim in speeds[1:] if claim.tone == BAD]
    sentences = [c.sentence for c in speeds] + [quality.sentence]
    if record.output is not None and record.source.sha256 == record.output.sha256 is not None:
        sentences.insert(0, "Both model files hold the same bytes.")
    if record.sites and (record.command != "compare" or record.changes is not None):
        sentences.append(claims.layers(record).sentence)
    extra = (chosen_claim(record), tuning.tuning(record), tuning.int8_tuning(record), claims.cost(record))
    sentences += [claim.sentence for claim in extra if claim is not None]
    return Verdict(_capital("; ".join(headline)), tuple(_capital(s) for s in sentences), _worst([*speeds, quality]))


def _judge_survey(record: Record) -> Verdict:
    sites = [site for site in record.sites if site.status == "eligible"]
    skipped = others(record)
    total = len(record.sites) + len(skipped)
    if not total and not record.separable:
        return Verdict(
            "No layer with weights was found in this model", ("There is nothing to make separable here.",), NEUTRAL
        )
    share = _share_of_macs(record)
    held = "" if share is None else f"; they hold {share} of its multiply-adds"
    if not sites:
        whole = "The one layer cannot" if total == 1 else f"None of {total} layers can"
        headline = f"{whole} be made separable"
    else:
        held = held.replace("they hold", "it holds") if len(sites) == 1 else held
        headline = f"{len(sites)} of {figures.plural(total, 'layer')} can be made separable{held}"
    if record.separable:
        headline = _with_separable(record, headline)
    sentences = []
    macs = record.totals.before.macs
    if macs is not None:
        sentences.append(f"One sample takes {figures.count(macs)} multiply-adds ({figures.count(2 * macs)} FLOPs).")
    else:
        sentences.append("The multiply-adds are unknown, because an input dimension is: give it with --input.")
    kept = len(record.sites) - len(sites)
    if kept:
        are = "is" if kept == 1 else "are"
        sentences.append(
            f"{figures.plural(kept, 'layer')} that could be rewritten {are} kept: Layers gives the reasons."
        )
    if skipped:
        kinds = Counter(skip.kind for skip in skipped).most_common()
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds)
        sentences.append(f"Left as they are: {listed}. The reasons are under “Not rewritten”.")
    return Verdict(headline, tuple(sentences), NEUTRAL)


def _with_separable(record: Record, headline: str) -> str:
    """``Already separable (14 pairs, 96 % of the multiply-adds); 1 of 10 other layers can be …``."""
    share = separable_share(record)
    of_all = "" if share is None else f", {figures.percent(share, decimals=0)} of the multiply-adds"
    already = f"Already separable ({figures.plural(len(record.separable), 'pair')}{of_all})"
    members = {output for pair in record.separable for output in pair.layers}
    if not record.sites and not others(record):
        return already
    rest = headline
    if not any(site.output in members for site in record.sites):
        rest = rest.replace(" layers can", " other layers can").replace(" layer can", " other layer can")
    return f"{already}; {rest[:1].lower()}{rest[1:]}".replace(" its multiply-adds", " the multiply-adds")


def _share_of_macs(record: Record) -> str | None:
    """The share of the model that the eligible sites are; kept ones could not be made separable."""
    total = record.totals.before.macs
    macs = [site.macs for site in record.sites if site.status == "eligible"]
    known = [count for count in macs if count is not None]
    if not total or len(known) < len(macs):
        return None
    return figures.percent(sum(known) / total, decimals=0)


def _judge_sweep(record: Record) -> Verdict:
    assert record.sweep is not None
    points = [p for p in record.sweep.points if p.speedup is not None and p.error is not None]
    tried = figures.plural(len(record.sweep.points), "model")
    if not points:
        return Verdict(f"{tried} tried, none measured in full", ("No point has both a speed-up and an error.",), MIXED)
    front = sorted((p for p in points if p.on_front), key=lambda p: p.speedup or 0) or points
    base = record.sweep.top1_before
    sentences = [_describe(p, base) for p in front]
    if len(front) < len(record.sweep.points):
        rest = figures.plural(len(record.sweep.points) - len(front), "more model")
        sentences.append(f"{rest} tried: no better than one of these, or not measured in full.")
    gentle = [p for p in front if (p.error or 0) < accuracy.SMALL_ERROR and p.difference == FASTER]
    if not gentle:
        return Verdict("No model of this sweep is faster with a small error", tuple(sentences), BAD)
    best = gentle[-1]
    certain = claims.factor(best)
    up_to = certain if certain.startswith("at least") else f"up to {certain}"
    headline = f"{_capital(up_to)} with a relative error of {figures.error(best.error)}"
    if base is None or best.top1 is None:
        return Verdict(headline, tuple(sentences), GOOD)
    tone = GOOD if base - best.top1 <= accuracy.SMALL_DROP else MIXED
    return Verdict(f"{headline}; {_top1(best, base)}", tuple(sentences), tone)


def _top1(point: SweepPoint, base: float | None) -> str:
    after = figures.percent(point.top1)
    return f"top-1 {after}" if base is None else f"top-1 {figures.percent(base)} → {after}"


def _describe(point: SweepPoint, base: float | None) -> str:
    bounds = figures.interval(point.speedup_ci95)
    interval = f" (95{figures.SPACE}% interval {bounds})" if bounds else ""
    top1 = f", {_top1(point, base)}" if point.top1 is not None else ""
    error = figures.error(point.error)
    found = metrics.told(point.metric, base, point.top1)
    metric = "" if found is None else f", {found.name} {metrics.words(found)}"
    return f"Asked for {point.label}: {claims.factor(point)}{interval}, relative error {error}{top1}{metric}."


def _worst(parts: list[claims.Claim]) -> str:
    tones = {part.tone for part in parts}
    return next((tone for tone in (BAD, MIXED) if tone in tones), GOOD)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
