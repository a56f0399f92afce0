"""Keywords that ``rewrite`` does not have: most are fields of an option object."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from sepconvert.data import Preprocess
from sepconvert.workflows.options import BudgetWords, FineTune, Measure, Planning, Reading
from sepconvert.workflows.outputs import Outputs

_PLACES: Mapping[type[Any], str] = {
    Planning: "planning=Planning({})",
    Measure: "measure=Measure({})",
    Reading: "reading=Reading({})",
    FineTune: "fine_tune=FineTune({})",
    Outputs: "outputs=Outputs({})",
    Preprocess: "reading=Reading(preprocess=Preprocess({}))",
}


def check_keywords(words: Mapping[str, Any]) -> None:
    """Refuse keywords that are no budget, as Python does, and say where what was meant belongs.

    Raises:
        TypeError: a keyword is no budget.
    """
    budgets = list(BudgetWords.__annotations__)
    homes = {field.name: place for kind, place in _PLACES.items() for field in fields(kind)}
    for word, value in words.items():
        if word in budgets:
            continue
        near = get_close_matches(word, [*budgets, *homes], 1)
        meant = word if word in homes else near[0] if near else None
        if meant in homes:
            remedy = f"it is {homes[meant].format(f'{meant}={_shown(value)}')}"
        else:
            remedy = f"budgets are {', '.join(budgets)}"
        raise TypeError(f"unexpected keyword '{word}'; {remedy}")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, bool | int | float | str | None) else "…"
