"""What was tried: the plan, the fine-tuning and the sample pictures, as plain data."""

import re
from dataclasses import dataclass
from typing import Any

from sepconvert.record import FASTER, NONE, SLOWER, Record, SampleImages
from sepconvert.report import figures
from sepconvert.report.layers import Pairs, plain_value, words

# Only pictures that are in the page already: anything else would be fetched, or run.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
_PICTURE_BUDGET = 250_000
_SHORTEST_STAGE, _SMALL_STAGE = 0.05, 0.02  # seconds, share of all of them
_PLAN_WORDS = {
    "rank": "Rank",
    "macs": "MACs, new/old",
    "params": "Parameters, new/old",
    "speedup": "Speed-up of the whole model",
    "max_error": "Relative error, worst output",
    "max_drop": "Fall of the metric",
    "goal": "Goal",
    "worst_part": "Part of the output that errs most",
    "share": "Spread over the layers",
    "dropped_weights": "Squared weights dropped, sum of shares",
    "architecture_speedup": "Speed-up with random weights, before fitting",
    "architectures": "Architectures timed",
    "held_out_inputs": "Held-out inputs it was checked on",
    "source": "Times of single layers",
}
_SOURCES = {
    "measured": "measured now",
    "cache": "measured in an earlier run",
    "table": "from the latency table",
    "roofline": "estimated (roofline)",
}
_TUNING_WORDS = {
    "layer_wise": "Layer by layer, before",
    "inputs": "Inputs trained on",
    "held_out_inputs": "Inputs held out",
    "labels": "Labels used",
    "hard_labels": "Labels are the original's own answers",
    "batch": "Inputs in a batch",
    "peak_rate": "Peak learning rate",
    "processes": "Processes",
    "divergence_before": "Divergence on held-out inputs, before",
    "divergence_after": "Divergence on held-out inputs, after",
    "cross_entropy_before": "Cross-entropy of the labels on held-out inputs, before",
    "cross_entropy_after": "Cross-entropy of the labels on held-out inputs, after",
    "agreement_before": "Same answer as the original on held-out inputs, before",
    "agreement_after": "Same answer as the original on held-out inputs, after",
    "top1_before": "Top-1 on held-out inputs, before",
    "top1_after": "Top-1 on held-out inputs, after",
    "metric": "Metric that was asked for",
    "metric_before": "The metric of the rewritten model, before",
    "metric_after": "The metric of the rewritten model, after",
    "best_step": "Step that was kept",
    "seconds": "Time",
}
_INT8_WORDS = {
    "steps": "Steps with the rounding of INT8",
    "best_step": "Step with that rounding that is best",
    "seconds": "Time of those steps",
    "error_before": "Error of the model in INT8 on held-out inputs, before",
    "error_after": "Error of the model in INT8 on held-out inputs, after",
    "kept": "Weights of the model in INT8 that were kept",
}
TUNING_SERIES = {"divergence": "held-out inputs", "training": "training batches"}
_STAGE_WORDS = {
    "profile": "Profiling the layers",
    "plan": "Cutting the network into segments",
    "latencies": "Timing candidates of single layers",
    "architectures": "Timing whole plans",
    "run": "Running the network",
    "moments": "Collecting statistics of patches",
    "fit": "Fitting factors",
    "int8": "Making, judging and timing INT8 models",
    "fine_tune": "Fine-tuning",
    "rest": "All else (reading, exporting, checks, measurements)",
}


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One quantity of the plan: asked, predicted, measured."""

    label: str
    asked: str
    predicted: str
    measured: str


@dataclass(frozen=True, slots=True)
class SampleView:
    """One sample: title, picture (a data URI or None) and note of each stage."""

    label: str
    pictures: tuple[tuple[str, str | None, str | None], ...]
    shows_outputs: bool


def sample_views(record: Record) -> tuple[SampleView, ...]:
    """Return the samples whose pictures fit the page, in order."""
    views = []
    room = _PICTURE_BUDGET
    for sample in record.samples:
        view = _sample_view(sample)
        room -= sum(len(uri) for _, uri, _ in view.pictures if uri)
        if room < 0:
            break
        views.append(view)
    return tuple(views)


def _sample_view(sample: SampleImages) -> SampleView:
    stages = (
        ("Input", sample.input, None),
        ("Original", sample.before, sample.note_before),
        ("New model", sample.after, sample.note_after),
        ("Difference", sample.difference, sample.note_difference),
    )
    shown = tuple(
        (title, uri if uri and _PICTURE.fullmatch(uri) else None, note) for title, uri, note in stages if uri or note
    )
    label = sample.label[:1].upper() + sample.label[1:]
    return SampleView(label, shown, any(uri for title, uri, _ in shown if title != "Input"))


def fine_tune_pairs(record: Record) -> Pairs:
    """Return the single values recorded about the fine-tuning, and then those of INT8 that tell more."""
    found = record.fine_tune or {}
    inside = {name: value for name, value in (found.get("int8") or {}).items() if name in _INT8_WORDS}
    return tuple(
        (names.get(name, words(name)), _tuning_value(name, value))
        for names, values in ((_TUNING_WORDS, found), (_INT8_WORDS, inside))
        for name, value in values.items()
        if not isinstance(value, dict | list)
    )


def _tuning_value(name: str, value: Any) -> str:
    if name == "trained_parameters":
        return figures.count(value)
    if name == "seconds" and value is not None:
        return figures.seconds(value)
    if name.startswith(("agreement", "top1")) and value is not None:
        return figures.percent(value, decimals=2)
    is_error = "divergence" in name or name.startswith("error") or name == "peak_rate"
    return figures.error(value) if is_error else plain_value(name, value)


def plan_rows(record: Record) -> tuple[PlanRow, ...]:
    """Return what was asked, predicted and measured, one line per quantity that is a single value."""
    if record.plan is None:
        return ()
    asked, predicted = record.plan.budget, record.plan.predicted or {}
    measured = _outcome(record, asked) | (record.plan.measured or {})
    bounds = [measured.pop(f"architecture_speedup_{end}", None) for end in ("low", "high")]
    if asked.get("share") == "planned":  # as every plan is that was not asked to be even
        asked = {label: value for label, value in asked.items() if label != "share"}
    # Milliseconds of two moments are not compared: a machine that was busy at one of them predicted 1.36 and measured
    # 0.88, with the same speed-up.
    labels = [label for label in dict.fromkeys([*asked, *predicted, *measured]) if label != "latency_ms"]
    rows = []
    for label in labels:
        values = [table.get(label) for table in (asked, predicted, measured)]
        if any(isinstance(value, dict | list) for value in values):
            continue
        texts = ["" if value is None else _plan_value(label, value) for value in values]
        if label == "speedup" and not texts[-1] and record.latency and record.latency[0].difference == NONE:
            texts[-1] = "no measurable difference"
        elif label == "speedup" and texts[-1] and record.latency and record.latency[0].stable is False:
            texts[-1] = f"about {texts[-1]}"
        if label == "architecture_speedup" and None not in bounds:
            texts[-1] += f" ({figures.interval(bounds)})"
        if any(texts):
            rows.append(PlanRow(_PLAN_WORDS.get(label, words(label)), *texts))
    return tuple(rows)


def _plan_value(label: str, value: Any) -> str:
    if label == "share":
        return "evenly" if value == "uniform" else str(value)
    if label == "source":
        return ", ".join(_SOURCES.get(one, one) for one in str(value).split(", "))
    if label == "rank" and value < 1:
        return f"{figures.percent(value, decimals=0)} of each layer’s MACs"
    return figures.ratio(value) if "speedup" in label else plain_value(label, value)


def _outcome(record: Record, asked: dict[str, Any]) -> dict[str, float]:
    """Return what came of the budgets, where the rest of the record tells."""
    before, after = record.totals.before, record.totals.after
    found: dict[str, float] = {}
    for label in ("macs", "params"):
        old, new = getattr(before, label), getattr(after, label, None)
        if label in asked and old and new is not None:
            found[label] = new / old
    timed = record.latency[0] if record.latency else None
    if "speedup" in asked and timed is not None and timed.difference in (FASTER, SLOWER) and timed.speedup is not None:
        found["speedup"] = timed.speedup
    return found


def stage_pairs(record: Record) -> Pairs:
    """Return how long each stage of the command took, but for those that hardly took any time, the longest first."""
    least = max(_SHORTEST_STAGE, _SMALL_STAGE * sum(record.seconds.values()))
    found = sorted(record.seconds.items(), key=lambda item: (item[0] == "rest", -item[1]))
    return tuple(
        (_STAGE_WORDS.get(stage, words(stage)), figures.seconds(time)) for stage, time in found if time >= least
    )


def whole_time(record: Record) -> str | None:
    """Return how long the whole command took; None in records that do not tell."""
    return figures.seconds(sum(record.seconds.values())) if "rest" in record.seconds else None
