"""The summary of a model in words: every layer with what it costs and could become, and what is separable already."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.record import SEPARABLE, Fold, ModelLayer, Record, SeparablePair
from sepconvert.report import figures
from sepconvert.report.folded import Listing, listing, together
from sepconvert.report.skips import others

NAMED = 3  # layers named where more share a reason
_LISTED = 6  # pairs that are told one by one
_SHORT = 1_000_000  # parameters that are told in full


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One row; ``short`` is the name without the operator and what the next part repeats.

    ``status`` is that of the layer, or ``more`` where the row stands for layers like those above it.
    """

    name: str
    short: str
    kind: str
    channels: str
    output: str
    params: str
    macs: str
    saving: str
    dropped: str
    status: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The table, a sentence on what was left out of it, and the sums."""

    rows: tuple[SummaryRow, ...]
    layers: int
    note: str
    params: str
    macs: str


def summarise(record: Record, *, every: bool = False) -> Summary:
    """Return the layers of a record as rows, repeated blocks folded unless ``every`` is asked for."""
    found = listing(record.layers, every=every)
    rows: list[SummaryRow] = []
    for block in found.blocks:
        rows += [_row(layer) for layer in block.shown]
        if block.hidden:
            rows.append(_more(block.shown, block.hidden, alike=found.alike))
    params, macs = together(record.layers)
    return Summary(tuple(rows), len(record.layers), _note(found), _params(params), figures.count(macs))


def _row(layer: ModelLayer) -> SummaryRow:
    saving = layer.saving
    channels = "" if layer.in_channels is None else f"{layer.in_channels} → {layer.out_channels}"
    return SummaryRow(
        name=layer.name or layer.output,
        short=_short(layer),
        kind=_kind(layer),
        channels=channels,
        output=shape(layer.out_shape),
        params=_params(layer.params) if layer.params else "",
        macs="" if layer.macs == 0 else figures.count(layer.macs),
        saving=_saving(layer),
        dropped="" if saving is None or saving.exact else figures.percent(saving.dropped, "", decimals=0),
        status=layer.status,
    )


def _short(layer: ModelLayer) -> str:
    """``/features/features.2/conv/conv.0/Conv`` as ``features.2/conv.0``: what an exporter adds to names left out."""
    parts = (layer.name or layer.output).strip("/").split("/")
    if len(parts) > 1 and parts[-1] == layer.op:
        parts = parts[:-1]
    following = [*parts[1:], ""]
    return "/".join(part for part, after in zip(parts, following, strict=True) if not after.startswith(f"{part}."))


def shape(sides: Sequence[int | None] | None) -> str:
    """Return an output's shape, without a batch of one."""
    if sides is None:
        return figures.UNKNOWN
    return figures.dimensions(sides[1:] if len(sides) > 1 and sides[0] == 1 else sides)


def _params(count: int) -> str:
    """In full where that is short: people check it by hand."""
    return figures.exact(count) if count < _SHORT else figures.count(count)


def _kind(layer: ModelLayer) -> str:
    """``conv 3×3 /2`` (stride 2), ``depthwise 3×3``, ``pointwise``, ``linear``, ``Relu``."""
    parts = [layer.kind]
    if layer.kernel and max(layer.kernel) > 1:
        parts.append(figures.dimensions(layer.kernel))
    if layer.stride and max(layer.stride) > 1:
        parts.append(
            f"/{figures.dimensions(sorted(set(layer.stride)) if len(set(layer.stride)) == 1 else layer.stride)}"
        )
    return " ".join(parts)


def _saving(layer: ModelLayer) -> str:
    if layer.saving is not None:
        factor = figures.ratio(layer.saving.factor)
        return f"{factor} exactly" if layer.saving.exact else f"{factor} {layer.saving.form}"
    if layer.pair is not None and layer.status == SEPARABLE:
        return f"separable {layer.pair + 1}"
    return {"kept": "kept", "skipped": "–", "eligible": "no cheaper"}.get(layer.status, "")


def _more(shown: Sequence[ModelLayer], hidden: Sequence[ModelLayer], *, alike: bool) -> SummaryRow:
    params, macs = together(hidden)
    times = len(hidden) // len(shown)
    name = f"  {times} more" if len(shown) == 1 else f"  {times} more of these {len(shown)}"
    last = "" if alike else f"… {shape(hidden[-1].out_shape)}"
    return SummaryRow(name, name, "", "", last, _params(params), figures.count(macs), "", "", "more")


def _note(found: Listing) -> str:
    notes = []
    if found.merged:
        which = "layer without multiply-adds is" if found.merged == 1 else "layers without multiply-adds are"
        notes.append(f"{figures.exact(found.merged)} {which} counted with the layer before")
    if any(block.hidden for block in found.blocks):
        same = "that are equal but for their weights" if found.alike else "of the same kind, whatever their channels,"
        notes.append(f"repeated blocks {same} are folded")
    return f"{'; '.join(notes)}; --all shows every row." if notes else ""


def saving_note(record: Record, *, dropped: bool = True) -> str:
    """Say what the savings in the table are, where there are any; ``dropped``: whether it tells what they drop."""
    if all(layer.saving is None or layer.saving.exact for layer in record.layers):
        return ""
    drops = "drops: the share of the squared weights that is lost then, before a fit to data makes up for it. "
    return (
        "Could save: multiply-adds before / after in that form, at r = 1 or about half of them"
        f"{f'; {drops}' if dropped else '. '}The loss of accuracy is known only after rewrite --data; higher ranks "
        "lose less and save less."
    )


def findings(record: Record, *, dropped: bool = True) -> list[str]:
    """Say what was found out beside the table: what is separable already, what is of low rank, what folds."""
    note = [text] if (text := saving_note(record, dropped=dropped)) else []
    return [*note, *separable_sentences(record), *exact_sentences(record), *fold_sentences(record)]


def separable_sentences(record: Record) -> list[str]:
    """Say how much of a model is separable already, and pair by pair where there are few."""
    pairs = record.separable
    if not pairs:
        return []
    return [_separable_in_all(record), *(_pair(i, pair) for i, pair in enumerate(pairs, 1) if len(pairs) <= _LISTED)]


def _separable_in_all(record: Record) -> str:
    pairs = record.separable
    share = separable_share(record)
    text = f"Already separable: {figures.plural(len(pairs), 'pair')} of depthwise and pointwise layers"
    if share is not None:
        text += f", {figures.percent(share, decimals=0)} of the multiply-adds"
    dense = [pair.dense_macs for pair in pairs]
    own = [pair.macs for pair in pairs]
    if None not in dense and None not in own and sum(own):  # type: ignore[arg-type]
        factor = sum(dense) / sum(own)  # type: ignore[arg-type]
        if factor > 1:  # a bottleneck that widens in between takes more than one between its narrow ends would
            text += (
                f". Standard convolutions of the same kernels and channels would take {figures.ratio(factor)} as many"
            )
    blocks = sum(not pair.exact for pair in pairs)
    if blocks:
        which = "None of them is" if blocks == len(pairs) else f"{blocks} of them are not"
        text += f". {which} one convolution in factors: more than scales stands between the layers (activations, sums)"
    alone = sum(layer.kind == "depthwise" and layer.pair is None for layer in record.layers)
    if alone:
        text += f". {figures.plural(alone, 'depthwise layer')} beside them stand{'s' if alone == 1 else ''} alone"
    return f"{text}."


def _pair(number: int, pair: SeparablePair) -> str:
    letter = "R" if pair.form == "pw-dw-pw" else "r"
    between = ", ".join(pair.between) or ("a sum" if pair.adds else "a bias before the padding")
    what = "one convolution" if pair.exact else f"with {between} between"
    cost = f"{_params(pair.params)} weights instead of {_params(pair.dense_params)}"
    return f"{number}: {' + '.join(pair.names)}, {pair.form} {letter}={pair.rank}, {what}, {cost}."


def separable_share(record: Record) -> float | None:
    """The share of the multiply-adds that is in separable pairs; None where it is unknown."""
    own = [pair.macs for pair in record.separable]
    known = [macs for macs in own if macs is not None]
    total = record.totals.before.macs
    return sum(known) / total if total and len(known) == len(own) else None


def exact_sentences(record: Record) -> list[str]:
    """Name the layers whose kernels are of low rank to rounding."""
    found: dict[str, list[str]] = defaultdict(list)
    letters = {form.name: form.letter for form in record.forms}
    for site in record.sites:
        saving = site.saving
        if saving is not None and saving.exact:
            scheme = f"{saving.form} {letters.get(saving.form, 'r')}={saving.rank}"
            found[scheme].append(site.name or site.output)
    return [
        f"{listed(names)}: {'kernels' if len(names) > 1 else 'a kernel'} of low rank; {scheme} computes the same, to "
        "rounding, for less."
        for scheme, names in found.items()
    ]


def fold_sentences(record: Record) -> list[str]:
    """Say which sums fold into pointwise layers, and which do not and why."""
    groups: dict[tuple[str, str], list[Fold]] = defaultdict(list)
    for fold in record.folds:
        groups[fold.status, fold.reason or ""].append(fold)
    return [_folds(status, reason, found) for (status, reason), found in groups.items()]


def _folds(status: str, reason: str, found: Sequence[Fold]) -> str:
    names = listed([fold.name or fold.output for fold in found])
    one = len(found) == 1
    sums = figures.plural(len(found), "sum")
    if status == "folded":
        return f"{sums} folded into pointwise weights (P + I): {names}."
    if status == "foldable":
        return f"{sums} fold{'s' if one else ''} exactly into pointwise weights (P + I) with rewrite --fold: {names}."
    return f"{sums} stay{'s' if one else ''} ({names}): {reason}"


def skip_sentences(record: Record) -> list[str]:
    """One sentence for each kind and reason, with the layers that it holds for."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for skip in others(record):
        groups[skip.kind, skip.reason].append(skip.name or skip.output)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [f"{len(names)} {kind} ({listed(names)}): {reason}" for (kind, reason), names in ordered]


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first few names and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
