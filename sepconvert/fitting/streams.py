"""One version of a model on its way from site to site, carrying only the values that are still needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepconvert.data import Dataset
from sepconvert.fitting.spool import Spool, Ticket
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import ValueType, extract
from sepconvert.runtime.sessions import Arrays, Session

Held = dict[str, Ticket]


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """How many inputs a batch holds, and whether they are held out from fitting."""

    samples: int
    heldout: bool


class Stream:
    """The live values of every batch of inputs, by name.

    ``held[i]`` belongs to batch i. A stream owns its tickets: end it with ``close``.
    """

    def __init__(self, spool: Spool, held: list[Held]) -> None:
        """Take over the tickets in ``held``."""
        self._spool = spool
        self.held = held

    def fork(self) -> "Stream":
        """Return a second stream that stands where this one does; the values are shared, not copied."""
        return Stream(self._spool, [{n: self._spool.share(t) for n, t in held.items()} for held in self.held])

    def types(self) -> Mapping[str, ValueType]:
        """Types of the live values, over all batches."""
        return {name: ValueType.of(*(held[name] for held in self.held)) for name in self.held[0]}

    def part(self, model: LoadedModel, names: Sequence[str]) -> LoadedModel | None:
        """Cut out of a model what computes ``names`` from the live values; None if all of them are live."""
        missing = [name for name in names if name not in self.held[0]]
        return extract(model, self.types(), missing) if missing else None

    def run(self, part: Session | None, names: Sequence[str], batch: int) -> Arrays:
        """Return values of one batch, live ones as they are, the others computed by ``part``."""
        values = self._load(batch, [name for name in names if name in self.held[batch]])
        missing = [name for name in names if name not in values]
        if missing:
            assert part is not None
            values |= part.run(self._load(batch, [info.name for info in part.inputs]), missing)
        return values

    def settle(self, batch: int, values: Arrays, keep: Sequence[str]) -> None:
        """Move one batch on: ``keep`` (live now, or in ``values``) lives on, the rest is released."""
        old = self.held[batch]
        new = {name: old[name] if name in old else self._spool.keep(values[name]) for name in keep}
        for name, ticket in old.items():
            if name not in new:
                self._spool.release(ticket)
        self.held[batch] = new

    def advance(self, part: Session | None, names: Sequence[str]) -> None:
        """Move all batches on: ``names``, live or computed by ``part``, live on, the rest is released."""
        for batch in range(len(self.held)):
            self.settle(batch, self.run(part, names, batch), names)

    def close(self) -> None:
        """Release everything."""
        for held in self.held:
            for ticket in held.values():
                self._spool.release(ticket)
        self.held = []

    def _load(self, batch: int, names: Sequence[str]) -> Arrays:
        return {name: self._spool.load(self.held[batch][name]) for name in names}


def start_stream(spool: Spool, fitted: Dataset, heldout: Dataset, size: int) -> tuple[Stream, tuple[StreamBatch, ...]]:
    """Begin at the model's inputs, with batches of at most ``size``: first those to fit to, then the held-out ones."""
    held: list[Held] = []
    batches: list[StreamBatch] = []
    for dataset in (fitted, heldout):
        constant = dataset.source.constant
        for feeds in dataset.batches(size):
            held.append({name: spool.keep(array) for name, array in feeds.items()})
            samples = max(len(array) for name, array in feeds.items() if name not in constant)
            batches.append(StreamBatch(samples, dataset is heldout))
    return Stream(spool, held), tuple(batches)


def share_of(wanted: float, batch: StreamBatch, batches: Sequence[StreamBatch]) -> float:
    """What falls to one batch of what is wanted from all that are fitted to, or from all that are held out."""
    return wanted * batch.samples / sum(other.samples for other in batches if other.heldout is batch.heldout)
