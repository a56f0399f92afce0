"""What a record lets us claim, one claim per question a reader has: how much faster, which layers, how much smaller.

A claim is only as strong as what was measured: an unstable timing gives no speed-up. How much worse: ``accuracy``.
"""

from collections import Counter
from dataclasses import dataclass

from sepconvert.record import (
    FASTER,
    NONE,
    SLOWER,
    Alternative,
    Environment,
    Latency,
    Record,
    SiteRecord,
    SweepPoint,
)
from sepconvert.record.difference import LEAST
from sepconvert.record.summary import DRIFTED
from sepconvert.report import figures

GOOD, MIXED, BAD, NEUTRAL = "good", "mixed", "bad", "neutral"

SLIGHT = 1.01  # a factor below this is no gain worth a colour

TONES = {FASTER: GOOD, SLOWER: BAD}
"""Differences in speed that are certain, and their tones."""


@dataclass(frozen=True, slots=True)
class Claim:
    """``short`` fits a headline, ``sentence`` says it in full, ``tone`` is good, mixed, bad or neutral.

    ``device`` names the device a claim about speed is true of.
    """

    short: str
    sentence: str
    tone: str
    device: str = ""


def threads(number: int) -> str:
    """Return ``one thread`` or ``4 threads``."""
    return "one thread" if number == 1 else f"{number} threads"


def speed(record: Record) -> list[Claim]:
    """One claim per device, the first of them the deciding one; a single claim where nothing was timed."""
    compared = [timed for timed in record.latency if timed.after is not None]
    if compared:
        return [_speed_on(timed, record.environment) for timed in compared]
    return [
        Claim(
            "speed not measured",
            "Speed was not measured, so no speed-up is claimed; fewer multiply-adds alone do not make a network "
            "faster.",
            MIXED,
        )
    ]


def place(timed: Latency, environment: Environment) -> str:
    """Return what a timing is true of: ``this CPU (AMD EPYC), one thread``."""
    named = environment.cpu not in ("", figures.UNKNOWN)
    device = f"this CPU{f' ({environment.cpu})' * named}" if timed.device == "cpu" else timed.device
    return f"{device}, {threads(timed.threads)}"


def _speed_on(timed: Latency, environment: Environment) -> Claim:
    where = f"on {place(timed, environment)}"
    assert timed.after is not None
    medians = f"{figures.milliseconds(timed.before.median_ms)} → {figures.milliseconds(timed.after.median_ms)}"
    if not timed.provider_verified:
        text = f"It is not proven that {timed.device} ran the models ({timed.provider}), so no speed-up is claimed."
        return Claim(f"speed on {timed.device} not proven", text, MIXED, timed.device)
    medians += f" ({DRIFTED})" if timed.drifted else ""
    short, sure = factor(timed), interval(timed)
    more = "" if timed.stable else " The timing was unstable; an idle machine can tell more."
    if timed.difference not in TONES:
        text = f"No measurable difference in speed {where} ({sure}): {medians}.{more}"
        return Claim(short, text, MIXED, timed.device)
    return Claim(short, f"{short} {where} ({sure}): {medians}.{more}", TONES[timed.difference], timed.device)


def factor(timed: Latency | SweepPoint | Alternative) -> str:
    """Return what is certain of a speed-up: ``1.52× faster``, ``at least 4.00× slower, about 4.42×``, or no difference.

    An unstable timing is believed as far as its interval goes.
    """
    if timed.difference not in TONES or timed.speedup is None or timed.speedup_ci95 is None:
        return "no measurable difference in speed"
    faster = timed.difference == FASTER
    about, least = (timed.speedup, timed.speedup_ci95[0]) if faster else (1 / timed.speedup, 1 / timed.speedup_ci95[1])
    if isinstance(timed, Alternative) or timed.stable is not False:
        return f"{figures.ratio(about)} {timed.difference}"
    if least < SLIGHT:
        return f"about {figures.ratio(about)} {timed.difference}"
    return f"at least {figures.ratio_below(least)} {timed.difference}, about {figures.ratio(about)}"


def interval(timed: Latency) -> str:
    """The interval of old time / new time, and how far a model may seem to differ from itself where that decides."""
    bounds = figures.interval(timed.speedup_ci95)
    if bounds is None:
        return "no interval was computed"
    text = f"95{figures.SPACE}% interval{'' if timed.difference == FASTER else ' of before/after'} {bounds}"
    if timed.difference != NONE or timed.speedup_ci95 is None or timed.speedup_ci95[0] <= 1 <= timed.speedup_ci95[1]:
        return text
    least = figures.percent(max(timed.scatter or 0, LEAST))
    return f"{text}, but opened anew the same models differ by up to {least}"


def layers(record: Record) -> Claim:
    """Which sites were rewritten, and why the others were not."""
    total = len(record.sites)
    rewritten = sum(site.status == "rewritten" for site in record.sites)
    kept = [site for site in record.sites if site.status != "rewritten"]
    short = f"{rewritten} of {figures.plural(total, 'layer')} rewritten"
    if not kept:
        every = "The one layer was" if total == 1 else f"All {figures.exact(total)} layers were"
        return Claim(short, f"{every} rewritten.", NEUTRAL)
    as_is = "as it is" if len(kept) == 1 else "as they are"
    return Claim(short, f"{short}; {figures.exact(len(kept))} kept {as_is}{_because(kept)}.", NEUTRAL)


def _because(kept: list[SiteRecord]) -> str:
    reasons = Counter(_inside_a_sentence(site.reason) for site in kept if site.reason)
    if not reasons:
        return " (no reason was recorded)"
    shown = [reason if len(reasons) == 1 else f"{n}{figures.SPACE}× {reason}" for reason, n in reasons.most_common(2)]
    rest = len(reasons) - len(shown)
    more = f"; and {figures.plural(rest, 'other reason')}, listed under Layers" if rest else ""
    return f" ({'; '.join(shown)}{more})"


def _inside_a_sentence(text: str) -> str:
    """Lower the first letter, unless it begins an abbreviation, and drop the full stop."""
    text = text.rstrip(". ")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def cost(record: Record) -> Claim | None:
    """Multiply-adds, parameters and bytes before and after."""
    before, after = record.totals.before, record.totals.after
    if after is None:
        return None
    parts = [
        f"{name} {show(old)} → {show(new)}" + ("" if None in (old, new) else f" ({change(old, new, less, more)})")
        for name, old, new, show, less, more in (
            ("multiply-adds per sample", before.macs, after.macs, figures.count, "fewer", "more"),
            ("parameters", before.params, after.params, figures.count, "fewer", "more"),
            ("file", before.file_bytes, after.file_bytes, figures.size, "smaller", "larger"),
        )
        if old is not None or new is not None
    ]
    if not parts:
        return None
    text = ", ".join(parts)
    return Claim(text, f"{text[0].upper()}{text[1:]}.", NEUTRAL)


def change(before: float | None, after: float | None, less: str, more: str) -> str:
    """Return ``1.85× fewer``, ``1.10× more``, ``less than 1 % fewer``, ``unchanged`` or ``unknown``."""
    if before is None or after is None:
        return figures.UNKNOWN
    if before == after:
        return "unchanged"
    if not before or not after:
        return less if after < before else more
    factor = before / after if after < before else after / before
    slight = factor < SLIGHT
    return f"{f'less than 1{figures.SPACE}%' if slight else figures.ratio(factor)} {less if after < before else more}"
