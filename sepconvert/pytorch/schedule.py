"""Which steps some results need, and when a value is used for the last time."""

from collections.abc import Collection, Sequence

from sepconvert.errors import ModelError
from sepconvert.pytorch.binding import Step

Schedule = tuple[tuple[Step, tuple[str, ...]], ...]
"""Steps in order, each with the values that nobody needs any more when it is done."""


def schedule(
    steps: Sequence[Step], wanted: Sequence[str], given: Collection[str], constants: Collection[str]
) -> Schedule:
    """Return the steps that ``wanted`` needs when ``given`` need not be computed.

    Raises:
        ModelError: a wanted value does not exist, or a needed one is neither given nor computed.
    """
    made = {name: index for index, step in enumerate(steps) for name in step.node.outputs if name}
    ready = {*given, *constants}
    unknown = [name for name in wanted if name not in made and name not in ready]
    if unknown:
        raise ModelError(f"The graph has no value '{unknown[0]}' that could be computed from what is given.")
    chosen = _needed(steps, made, [name for name in wanted if name not in ready], ready)
    last = {name: index for index in chosen for name in steps[index].reads}
    kept = {*wanted, *ready}
    plan = []
    for index in chosen:
        outputs = (name for name in steps[index].node.outputs if name and last.get(name, -1) < index)
        names = dict.fromkeys((*(name for name in steps[index].reads if last[name] == index), *outputs))
        plan.append((steps[index], tuple(name for name in names if name not in kept)))
    return tuple(plan)


def _needed(steps: Sequence[Step], made: dict[str, int], wanted: Sequence[str], ready: set[str]) -> list[int]:
    needed: set[int] = set()
    stack = list(wanted)
    while stack:
        name = stack.pop()
        if name in ready:
            continue
        if name not in made:
            raise ModelError(f"The graph needs '{name}', which is neither given nor computed.")
        if made[name] not in needed:
            needed.add(made[name])
            stack += steps[made[name]].reads
    return sorted(needed)
