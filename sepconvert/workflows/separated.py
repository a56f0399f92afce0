"""What is separable already, and which sums fold into pointwise layers, as the record tells it."""

from collections.abc import Sequence

from sepconvert.graph.count import sum_known
from sepconvert.graph.residuals import ADDS_INPUT, added_input, find_residuals
from sepconvert.graph.separated import SeparableBlock, find_separable, told
from sepconvert.record import Fold, SeparablePair
from sepconvert.separable.forms import cli_name
from sepconvert.workflows.opened import OpenedModel


def describe_separable(opened: OpenedModel) -> list[SeparablePair]:
    """The pairs of layers that are separable already."""
    residuals = {residual.product for residual in find_residuals(opened.model, opened.shapes)}
    return [_described(pair, residuals) for pair in find_separable(opened.model, opened.shapes)]


def _described(pair: SeparableBlock, residuals: set[str]) -> SeparablePair:
    pieces = pair.pieces
    first, last, taps = pieces[0].geometry, pieces[-1].geometry, pair.depthwise[0].geometry
    costs = [piece.geometry.dense_cost for piece in pieces]
    dense = first.in_channels * last.out_channels * taps.taps
    adds = "depthwise" if pieces[-1].output in residuals else "input" if added_input(pair) is not None else ""
    return SeparablePair(
        form=cli_name(pair.form),
        rank=pair.rank,
        layers=[piece.output for piece in pieces],
        names=[piece.name for piece in pieces],
        exact=pair.is_exact,
        params=sum(cost.params for cost in costs),
        macs=sum_known([cost.macs for cost in costs]),
        dense_params=dense,
        dense_macs=None if taps.positions is None else dense * taps.positions,
        between=told([name for link in pair.links for name in link.between]),
        adds=adds,
    )


def describe_folds(opened: OpenedModel) -> list[Fold]:
    """Sums that fold into pointwise layers, and those at separable pairs that do not, with the reason."""
    found = [
        Fold(
            residual.site.name,
            residual.product,
            residual.site.output,
            "foldable" if residual.reason is None else "kept",
            residual.reason,
        )
        for residual in find_residuals(opened.model, opened.shapes)
    ]
    for pair in find_separable(opened.model, opened.shapes):
        total = added_input(pair)
        if total is not None:
            last = pair.pieces[-1]
            found.append(Fold(last.name, last.output, str(total.outputs[0].name), "kept", ADDS_INPUT))
    return found


def share_of(pairs: Sequence[SeparablePair], macs: int | None) -> float | None:
    """The share of the model's multiply-adds that is in separable pairs; None where either is unknown."""
    own = sum_known([pair.macs for pair in pairs])
    return own / macs if macs and own is not None else None
