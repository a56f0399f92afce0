"""What a record lets us claim, one claim per question a reader has: how much faster, how much worse, which layers.

A claim is only as strong as what was measured: an unstable timing gives no speed-up, missing data no accuracy.
"""

from collections import Counter
from dataclasses import dataclass, replace

from sepconvert.record import (
    FASTER,
    NONE,
    SLOWER,
    Alternative,
    ChoiceFidelity,
    Environment,
    Fidelity,
    InputValues,
    Latency,
    OutputFidelity,
    Record,
    SiteRecord,
    SweepPoint,
)
from sepconvert.record.difference import LEAST
from sepconvert.record.ruin import ruins
from sepconvert.record.summary import DRIFTED
from sepconvert.report import figures, metrics

GOOD, MIXED, BAD, NEUTRAL = "good", "mixed", "bad", "neutral"

# Shares of the output's variation that are lost: below 1 % is hard to notice, above 10 % most tasks suffer.
SMALL_ERROR, LARGE_ERROR = 0.01, 0.1
# Points of top-1.
SMALL_DROP, LARGE_DROP = 0.005, 0.02
# Shares of choices that are the original's: below the first a loss is no small one, below the second it is large,
# whatever the outputs' error.
MOST_KEPT, FEWEST_KEPT = 0.99, 0.9
# Of fewer positions a share of kept choices says nothing: with 30 it is known to about a tenth.
FEWEST_POSITIONS = 30
ROUNDING_ERROR = 1e-9
_NO_MEAN = 1e-4  # of the standard deviation: a smaller mean is one of 0, rounded
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
    short, interval = factor(timed), _interval(timed)
    more = "" if timed.stable else " The timing was unstable; an idle machine can tell more."
    if timed.difference not in TONES:
        text = f"No measurable difference in speed {where} ({interval}): {medians}.{more}"
        return Claim(short, text, MIXED, timed.device)
    return Claim(short, f"{short} {where} ({interval}): {medians}.{more}", TONES[timed.difference], timed.device)


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


def _interval(timed: Latency) -> str:
    """The interval of old time / new time, and how far a model may seem to differ from itself where that decides."""
    bounds = figures.interval(timed.speedup_ci95)
    if bounds is None:
        return "no interval was computed"
    text = f"95{figures.SPACE}% interval{'' if timed.difference == FASTER else ' of before/after'} {bounds}"
    if timed.difference != NONE or timed.speedup_ci95 is None or timed.speedup_ci95[0] <= 1 <= timed.speedup_ci95[1]:
        return text
    least = figures.percent(max(timed.scatter or 0, LEAST))
    return f"{text}, but opened anew the same models differ by up to {least}"


def quality(record: Record) -> Claim:
    """How far the new outputs are from the original's, in the terms nearest to the user's task."""
    fidelity = record.fidelity
    if fidelity is None:
        return Claim(
            "accuracy not measured",
            "What the new model costs in accuracy was not measured: give --data.",
            MIXED,
        )
    claim = _with_metric(fidelity, _top1(fidelity) or _worst_output(fidelity))
    if fidelity.fitted:
        tone = BAD if claim.tone == BAD else MIXED
        return Claim(f"{claim.short} on the inputs it was fitted to", claim.sentence, tone)
    if not on_random(fidelity):
        return claim
    worst = None if fidelity.worst is None else fidelity.worst.decisive_error
    if worst is not None and not worst < 1:
        # A network is not made for noise: it may answer all of it alike.
        refused = " Nothing was refused because of it." if record.command == "rewrite" else ""
        text = f"Relative error {figures.error(worst)} on random inputs: this figure says little.{refused} Give --data."
        return Claim(f"relative error {figures.error(worst)} on random inputs, which says little", text, MIXED)
    text = f"{claim.sentence} The inputs were random numbers: errors on real data can be quite different."
    return Claim(f"{claim.short} on random inputs", text, BAD if claim.tone == BAD else MIXED)


def on_random(fidelity: Fidelity) -> bool:
    """Whether the inputs were random numbers."""
    return "random" in fidelity.data.lower()


def _with_metric(fidelity: Fidelity, claim: Claim) -> Claim:
    """The user's own metric comes first; the bound on it decides, but for what is beyond use."""
    found = metrics.told(fidelity.metric, fidelity.top1_before, fidelity.top1_after)
    if found is None:
        return claim
    short = f"{found.name} {metrics.moved(found)}"
    text = f"The metric {found.name} on {inputs(fidelity)}: {metrics.words(found)}. {claim.sentence}"
    if found.max_drop is None or ruins(fidelity.worst.decisive_error if fidelity.worst else None):
        return Claim(f"{short}; {claim.short}" if claim.tone == BAD else short, text, claim.tone)
    return Claim(short, text, GOOD if found.bounded else BAD)


def _top1(fidelity: Fidelity) -> Claim | None:
    before, after = fidelity.top1_before, fidelity.top1_after
    if before is None or after is None:
        return None
    drop = before - after
    points = figures.points(after - before).lstrip("+−")
    if points != "unchanged":
        points += " lower" if drop > 0 else " higher"
    short = f"top-1 {figures.percent(before)} → {figures.percent(after)}"
    text = f"T{short[1:]} ({points}) on {inputs(fidelity)}{_agreement(fidelity)}{_choices(fidelity)}."
    tone = GOOD if drop <= SMALL_DROP else MIXED if drop <= LARGE_DROP else BAD
    return Claim(short, text, tone)


def inputs(fidelity: Fidelity) -> str:
    """Return what was compared on: ``2 000 samples of test.npz``; a text that counts itself stands alone."""
    words = fidelity.data.rpartition("/")[2].replace(",", "").split()
    if "samples" in words or words[:1] == ["all"] or (len(words) > 1 and str(fidelity.samples) in words):
        return fidelity.data
    return f"{figures.plural(fidelity.samples, 'sample')} of {fidelity.data}"


def values(found: InputValues) -> str:
    """What values an input has, so that a wrong preparation shows."""
    mean = 0.0 if abs(found.mean) < _NO_MEAN * found.std else found.mean
    return (
        f"Input {found.name}: values from {found.lowest:.4g} to {found.highest:.4g}, mean {mean:.4g}, standard "
        f"deviation {found.std:.4g}."
    )


def _agreement(fidelity: Fidelity) -> str:
    if fidelity.top1_agreement is None:
        return ""
    share = "all" if fidelity.top1_agreement == 1 else f"{figures.percent(fidelity.top1_agreement)}"
    return f"; the two models give the same top answer on {share} of them"


def choice(found: ChoiceFidelity) -> str:
    """Return how often the choice stayed the same, and how many samples are free of any other.

    ``97.0 % of 4 960 positions (another one somewhere in 68.3 % of the samples)``.
    """
    if found.positions < FEWEST_POSITIONS:
        same = round(found.agreement * found.positions)
        return f"{same} of {figures.plural(found.positions, 'position')}, too few to judge by"
    changed = f"another one somewhere in {figures.percent(1 - found.unchanged)} of the samples"
    return f"{figures.percent(found.agreement)} of {figures.plural(found.positions, 'position')} ({changed})"


def _choices(fidelity: Fidelity) -> str:
    """The choices that changed most, where there are any that top-1 does not count."""
    found = _countable(fidelity).worst_choice or fidelity.worst_choice
    if found is None:
        return ""
    named = f" in “{found.name}”" if len(fidelity.choices) > 1 else ""
    return f"; the same choice{named} at {choice(found)}"


def _countable(fidelity: Fidelity) -> Fidelity:
    """The same without choices at so few positions that their share says nothing: a detector that finds nothing."""
    return replace(fidelity, choices=[found for found in fidelity.choices if found.positions >= FEWEST_POSITIONS])


def _worst_output(fidelity: Fidelity) -> Claim:
    output, on = fidelity.worst, f"on {inputs(fidelity)}"
    worst = None if output is None else output.decisive_error
    if output is None or worst is None:
        text = f"The relative error cannot be computed {on}: it takes at least two samples and an output that varies."
        return Claim("accuracy not comparable", text, MIXED)
    which = _which(fidelity, output)
    number = figures.error(worst) + " before the activation" * output.before_activation
    if worst < ROUNDING_ERROR:
        text = f"The outputs equal the original's to rounding{which}: relative error {number} {on}."
        return Claim("outputs equal to rounding", text, GOOD)
    if worst >= 1 or worst != worst:
        text = (
            "The new model is unusable: its outputs are no closer to the original's than a constant answer"
            f"{which}, relative error {number} {on}."
        )
        return Claim(f"unusable: relative error {number}", text, BAD)
    same = _countable(fidelity).least_agreement
    kept_choices = 1.0 if same is None else same
    size, tone = ("small", GOOD) if worst < SMALL_ERROR and kept_choices >= MOST_KEPT else ("noticeable", MIXED)
    if worst >= LARGE_ERROR or kept_choices < FEWEST_KEPT:
        size, tone = "large", BAD
    kept = figures.percent(1 - worst, decimals=2 if worst < SMALL_ERROR else 1)
    what = "that part" if output.parts else "the original output"
    text = (
        f"A {size} loss{which}: relative error {number} {on}; the new model reproduces {kept} of {what}'s "
        f"variation{_agreement(fidelity)}{_choices(fidelity)}."
    )
    if output.pre_activation_relative_error is not None and fidelity.least_agreement is None:
        text += " How many of the decisions made from it change was not counted."
    changed = _countable(fidelity).worst_choice
    more = "" if changed is None else f", the same choice at {figures.percent(changed.agreement)} of the positions"
    return Claim(f"relative error {number}{more}", text, tone)


def _which(fidelity: Fidelity, output: OutputFidelity) -> str:
    """Name the output that errs most, and its worst part, where there are several."""
    names = [] if len(fidelity.outputs) == 1 else [f"the worst of {len(fidelity.outputs)} outputs, “{output.name}”"]
    if output.worst_part is not None:
        joining = "it" if names else f"“{output.name}”"
        names.append(f"the worst of the {len(output.parts)} parts that {joining} joins, “{output.worst_part.name}”")
    return f" ({': '.join(names)})" if names else ""


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
