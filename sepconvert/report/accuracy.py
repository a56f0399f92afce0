"""What a record lets us claim about accuracy: how much worse the new model answers, and how sure that is.

Missing data give no accuracy, and a share of very few answers decides nothing.
"""

from dataclasses import replace

from sepconvert.record import ChoiceFidelity, Fidelity, InputValues, OutputFidelity, Record
from sepconvert.record.ruin import ruins
from sepconvert.report import figures, metrics
from sepconvert.report.claims import BAD, GOOD, MIXED, Claim

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
