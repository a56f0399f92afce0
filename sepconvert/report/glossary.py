"""The words of the page, explained in a sentence each; only those that a page uses."""

from collections.abc import Callable

from sepconvert.record import Record
from sepconvert.report.layers import Pairs

_Asked = Callable[[Record], object]


def _always(record: Record) -> bool:  # noqa: ARG001
    return True


def _is_compared(record: Record) -> bool:
    return record.fidelity is not None


def _is_fitted(record: Record) -> bool:
    return any(site.error_calibration is not None or site.error_heldout is not None for site in record.sites)


_WORDS: tuple[tuple[str, str, _Asked], ...] = (
    ("MAC", "One multiply-add. FLOPs are twice as many. Both are per sample.", _always),
    (
        "Separable",
        "A convolution done in two or three cheap steps: the taps in each channel alone (depthwise), and the channels "
        "at each position alone (pointwise, 1×1).",
        _always,
    ),
    ("Form", "Which steps, in which order. The table of forms is under Layers.", lambda record: record.sites),
    (
        "Rank",
        "How many such filters stand for one original filter (r), or how many channels lie between the steps (R). A "
        "higher rank is closer and costs more.",
        lambda record: record.sites,
    ),
    (
        "Lowering",
        "How factors become nodes: one after another (stacked), summed pairs (branches), or joined depthwise layers "
        "(concat).",
        lambda record: any(site.lowering not in (None, "stacked") for site in record.sites),
    ),
    (
        "Relative error",
        "The squared difference from the original, by how much the original's output varies: 0 is identical, 1 no "
        "better than a constant answer. Below 0.01 is hard to notice.",
        _is_compared,
    ),
    (
        "Same choice",
        "At how many positions both models find the same class the most likely. Where scores say yes or no: how often "
        "both say yes, of the positions at which either does.",
        lambda record: record.fidelity is not None and record.fidelity.choices,
    ),
    ("Top-1", "The share of inputs whose largest output is the right class.", lambda record: _top1(record)),
    ("Calibration inputs", "Unlabelled inputs that the new layers were fitted to.", _is_fitted),
    ("Held-out inputs", "Calibration inputs that nothing was fitted to, kept to check with.", _is_fitted),
    (
        "Weights alone",
        "How far a layer's kernel is from the original's, by its squares. One that was fitted to inputs may be far off "
        "and make the same of them: it keeps what they have, not the weights.",
        _is_fitted,
    ),
    (
        "95 % interval",
        "The range that the speed-up lies in, as far as the timing can tell. No difference inside of it is claimed.",
        lambda record: record.latency or record.sweep,
    ),
    (
        "Latency alone",
        "The time of one layer by itself. Such times do not add up to the whole model's.",
        lambda record: any(site.latency_ms is not None for site in record.sites),
    ),
    ("Divergence", "What fine-tuning lowers: how far the outputs are from the original's.", lambda r: r.fine_tune),
    (
        "INT8",
        "Computing in whole numbers of 8 bits, with scales found on the calibration inputs.",
        lambda record: record.plan is not None and record.plan.alternatives,
    ),
)


def _top1(record: Record) -> bool:
    return record.fidelity is not None and record.fidelity.top1_before is not None


def glossary(record: Record) -> Pairs:
    """Return the words that a record's page uses, with what they mean."""
    return tuple((word, text) for word, text, is_used in _WORDS if is_used(record))
