"""Names in a checkpoint that differ from the module's by what wrappers put before them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sepconvert.pytorch.accept import State

# What DataParallel, torch.compile, averaging, Lightning and training scripts put before the names of a network's own.
_WRAPPERS = frozenset({"module", "_orig_mod", "model", "net", "network", "ema_model", "averaged_model"})
# Counters, of layers, of averaging and of a profiler (thop), that no output depends on.
_COUNTERS = frozenset({"num_batches_tracked", "n_averaged", "total_ops", "total_params"})
_NOT_NEEDED = frozenset({"num_batches_tracked", "_extra_state"})


@dataclass(frozen=True, slots=True)
class MatchedKeys:
    """A state_dict under the module's names, the names that are too few and too many, and sentences about both."""

    state: State
    missing: list[str]
    unexpected: list[str]
    notes: tuple[str, ...] = ()


def match_keys(state: Mapping[str, torch.Tensor], own: Sequence[str]) -> MatchedKeys:
    """Give a checkpoint's tensors the module's names.

    Names are left alone where they fit. Otherwise prefixes of wrappers (``module.``, ``_orig_mod.``, ``model.`` …), or
    one prefix that all of them share, are taken off or put on, where more of them fit then.

    Args:
        state: tensors by the checkpoint's names.
        own: names of the module's tensors.
    """
    found = [_judged(dict(state), own)]
    for names in (_without_wrappers(state, own), _without_shared(state, own)):
        judged = _judged({names.get(name, name): tensor for name, tensor in state.items()}, own)
        found.append(MatchedKeys(judged.state, judged.missing, judged.unexpected, (*_notes(names), *judged.notes)))
    return min(found, key=lambda match: len(match.missing) + len(match.unexpected))


def _judged(state: State, own: Sequence[str]) -> MatchedKeys:
    known = set(own)
    unexpected = [name for name in state if name not in known]
    counters = [name for name in unexpected if name.rpartition(".")[2] in _COUNTERS]
    kept = {name: tensor for name, tensor in state.items() if name not in counters}
    note = (
        f"{len(counters)} counters that the module does not have ({counters[0]} …) were left out." if counters else ""
    )
    return MatchedKeys(
        kept,
        [name for name in own if name not in kept and name.rpartition(".")[2] not in _NOT_NEEDED],
        [name for name in unexpected if name not in counters],
        (note,) if note else (),
    )


def _without_wrappers(state: Iterable[str], own: Sequence[str]) -> dict[str, str]:
    """Pair names that are the same but for wrappers, wherever those stand; only pairs without a doubt."""
    ours = {_bare(name): name for name in own}
    seen = Counter(map(_bare, own))
    theirs = Counter(map(_bare, state))
    return {name: ours[_bare(name)] for name in state if seen[_bare(name)] == theirs[_bare(name)] == 1}


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _without_shared(state: Iterable[str], own: Sequence[str]) -> dict[str, str]:
    """Take the longest prefix off that all names share, and put the module's on."""
    theirs, ours = _shared(state), _shared(own)
    return {name: ours + name[len(theirs) :] for name in state}


def _shared(names: Iterable[str]) -> str:
    parts = [name.split(".")[:-1] for name in names if name.rpartition(".")[2] not in _COUNTERS]
    first = parts[0] if parts else []
    length = 0
    while length < len(first) and all(other[: length + 1] == first[: length + 1] for other in parts):
        length += 1
    return "".join(f"{part}." for part in first[:length])


def _notes(names: Mapping[str, str]) -> tuple[str, ...]:
    example = next((pair for pair in names.items() if pair[0] != pair[1]), None)
    if example is None:
        return ()
    return (f"names were taken without the prefix of a wrapper ('{example[0]}' as '{example[1]}').",)
