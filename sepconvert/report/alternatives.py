"""The models that INT8 makes a choice of, side by side, as plain data."""

from dataclasses import dataclass

from sepconvert.record import ALONE, BOTH, ORIGINAL, REWRITTEN, Alternative, Record
from sepconvert.report import claims, figures
from sepconvert.report.precision import floats_sentence, left_in_floats

_TITLES = {ORIGINAL: "original", ALONE: "INT8 alone", REWRITTEN: "rewritten", BOTH: "both"}
_WRITTEN = {
    ALONE: "INT8 alone serves what was asked best, so the original was written in INT8 and no layer was rewritten",
    REWRITTEN: "the rewritten model serves what was asked best without INT8, so it was written in floating point",
    BOTH: "rewritten and in INT8 serves what was asked best, so that was written",
}


@dataclass(frozen=True, slots=True)
class AlternativesView:
    """Titles of the columns, which of them was written (a position), and rows: a label and a text per column."""

    titles: tuple[str, ...]
    written: int | None
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def alternatives_view(record: Record) -> AlternativesView | None:
    """Return the alternatives of a record, or None where there are none."""
    models = [] if record.plan is None else record.plan.alternatives
    if not models:
        return None
    rows = [
        ("Latency", tuple(figures.milliseconds(model.latency_ms) for model in models)),
        ("Speed-up", tuple(_speedup(model) for model in models)),
        ("Relative error", tuple(figures.error(model.error) for model in models)),
        ("Model file", tuple(figures.size(model.bytes) for model in models)),
        ("Ranges", tuple(model.ranges or "–" for model in models)),
        ("In floating point", tuple(left_in_floats(model) for model in models)),
    ]
    written = next((place for place, model in enumerate(models) if model.chosen), None)
    return AlternativesView(tuple(_TITLES.get(model.name, model.name) for model in models), written, tuple(rows))


def _speedup(model: Alternative) -> str:
    if model.name == ORIGINAL:
        return "–"
    if model.speedup is None:
        return figures.NOT_MEASURED
    return "no difference" if model.difference not in claims.TONES else figures.ratio(model.speedup)


def chosen_claim(record: Record) -> claims.Claim | None:
    """Say which of the alternatives was written, and what INT8 alone would give; None where there is no choice."""
    models = {} if record.plan is None else {model.name: model for model in record.plan.alternatives}
    name = next((model.name for model in models.values() if model.chosen), None)
    if name not in _WRITTEN:
        return None
    text = f"{_WRITTEN[name]}.{floats_sentence(models[name])}"
    if name != ALONE and ALONE in models:
        alone = models[ALONE]
        speed = claims.factor(alone) if alone.speedup is not None else "speed not measured"
        text += f" INT8 alone: {speed}, relative error {figures.error(alone.error)}."
    return claims.Claim(_TITLES[name], text, claims.NEUTRAL)
