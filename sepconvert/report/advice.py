"""What to do next. For a survey the two answers of the FAQ that fit the model: where a saving can come from, and how.

After other commands see ``next_steps.py``. Each list of rules is asked in order, and the first that has something to
say is taken. The limits are of the networks in ``reports/README.md``, which has the measurements behind every sentence.
"""

from collections.abc import Callable
from math import prod

from sepconvert.record import ModelLayer, Record
from sepconvert.report import figures
from sepconvert.report.next_steps import next_steps
from sepconvert.report.summary import separable_share

Rule = Callable[[Record], str | None]

_MOST, _MANY, _FEW = 0.5, 0.3, 0.1  # shares of the multiply-adds
_THIN = 4  # input channels of a first layer
_LONG = 25  # taps of a long kernel
_SMALL = 8 * 8  # positions of a small map
_MIXING = ("pointwise", "linear")


def advise(record: Record) -> list[str]:
    """Return at most three sentences.

    A survey gets two; none where the model's multiply-adds are unknown or it has no layer with weights.
    """
    if record.command != "analyze":
        return next_steps(record)
    if not record.totals.before.macs or not any(layer.status for layer in record.layers):
        return []
    return [next(filter(None, (rule(record) for rule in rules))) for rules in (_WHERE, _HOW)]


def _share(record: Record, wanted: Callable[[ModelLayer], bool]) -> float:
    """Share of the model's multiply-adds that is in the layers asked for."""
    total = record.totals.before.macs or 0
    return sum(layer.macs or 0 for layer in record.layers if wanted(layer)) / total


def _percent(share: float) -> str:
    return figures.percent(share, decimals=0)


def _is_eligible(layer: ModelLayer) -> bool:
    return layer.status == "eligible"


def _separable(record: Record) -> str | None:
    share = separable_share(record) or 0
    if share < _MOST:
        return None
    mixing = _share(record, lambda layer: layer.kind in _MIXING)
    return (
        f"Where: {_percent(share)} of the multiply-adds are in pairs that are separable already, so there is little "
        f"left to separate; pointwise and linear layers hold {_percent(mixing)}, which --form any can factorise where "
        "they are wide."
    )


def _mixing(record: Record) -> str | None:
    mixing = _share(record, lambda layer: layer.kind in _MIXING and layer.status != "eligible")
    if mixing < _MANY:
        return None
    eligible = _share(record, _is_eligible)
    rest = f"layers that can be separated hold {_percent(eligible)}" if eligible else "no layer can be separated"
    return (
        f"Where: pointwise and linear layers hold {_percent(mixing)} of the multiply-adds, {rest}; --form any "
        "factorises wide pointwise layers, too (thin ones lose more than they save)."
    )


def _exact(record: Record) -> str | None:
    exact = [layer for layer in record.layers if layer.saving is not None and layer.saving.exact]
    if not exact:
        return None
    saved = sum((layer.macs or 0) * (1 - 1 / layer.saving.factor) for layer in exact if layer.saving is not None)
    share = saved / (record.totals.before.macs or 1)
    return (
        f"Where: {figures.plural(len(exact), 'kernel')} of low rank can be separated without any loss, which saves "
        f"{_percent(share)} of the multiply-adds."
    )


def _dense(record: Record) -> str | None:
    eligible = _share(record, _is_eligible)
    if not eligible:
        return None
    saved = sum(
        (layer.macs or 0) * (1 - 1 / layer.saving.factor) for layer in record.layers if layer.saving is not None
    )
    least = 1 / (1 - saved / (record.totals.before.macs or 1))
    return (
        f"Where: {_percent(eligible)} of the multiply-adds are in layers that can be separated, at most "
        f"{figures.ratio(least)} fewer in all at r = 1; fitted to data, two Fashion-MNIST networks lost 0.1 to 1.1 "
        "points of top-1 at a half to a quarter of theirs."
    )


def _nowhere(record: Record) -> str:  # noqa: ARG001
    return "Where: no layer can be separated with the forms that were asked for; --form any looks at every layer."


def _lossless(record: Record) -> str | None:
    exact = {(layer.saving.form, layer.saving.rank) for layer in record.layers if layer.saving and layer.saving.exact}
    others = any(_is_eligible(layer) and not (layer.saving and layer.saving.exact) for layer in record.layers)
    if len(exact) != 1:
        return None
    ((form, rank),) = exact
    only = " --include NAME, for each of them," if others else ""
    return f"How: rewrite --form {form} --rank {rank}{only} writes them in factors; it takes no data."


def _thin(record: Record) -> str | None:
    thin = _share(record, lambda layer: _is_eligible(layer) and (layer.in_channels or 0) <= _THIN)
    if thin < _FEW:
        return None
    return (
        f"How: layers with {_THIN} input channels or fewer hold {_percent(thin)} of the multiply-adds, and a low rank "
        "of these loses much; give a budget (--max-error, --macs), which spends rank where it is needed, rather than "
        "one --rank for all."
    )


def _long(record: Record) -> str | None:
    long = [layer for layer in record.layers if _is_eligible(layer) and prod(layer.kernel or [1]) >= _LONG]
    share = sum(layer.macs or 0 for layer in long) / (record.totals.before.macs or 1)
    if share < _MANY:
        return None
    taps = max(prod(layer.kernel or [1]) for layer in long)
    return (
        f"How: kernels of up to {taps} taps hold {_percent(share)} of the multiply-adds, and the longer a kernel the "
        "more its separation saves; start with rewrite --data and no budget (an error of at most 1 %)."
    )


def _small(record: Record) -> str | None:
    def is_small(layer: ModelLayer) -> bool:
        positions = prod(side or 0 for side in (layer.out_shape or [])[2:])
        return _is_eligible(layer) and layer.kernel is not None and 0 < positions <= _SMALL

    share = _share(record, is_small)
    if share < _MOST:
        return None
    return (
        f"How: {_percent(share)} of the multiply-adds are on maps of 8×8 or less, where fewer multiply-adds save "
        "less time than on larger maps (7.9 times fewer were 2.5 times faster at 7×7, 4.7 times at 28×28); ask for "
        "--speedup, which is measured."
    )


def _usual(record: Record) -> str:  # noqa: ARG001
    return (
        "How: rewrite --data with a few hundred varied, unlabelled inputs and --form any, at first without a budget "
        "(an error of at most 1 %); without data the loss is many times larger."
    )


_WHERE: tuple[Rule, ...] = (_separable, _exact, _mixing, _dense, _nowhere)
_HOW: tuple[Rule, ...] = (_lossless, _thin, _long, _small, _usual)
