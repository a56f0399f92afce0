"""What training brought, in a sentence: of the rewritten network, and of the same in INT8."""

from collections.abc import Mapping
from typing import Any

from sepconvert.record import Record
from sepconvert.report import figures
from sepconvert.report.claims import MIXED, NEUTRAL, Claim


def tuning(record: Record) -> Claim | None:
    """What the fine-tuning brought on inputs held out from it; None where there was none."""
    found = record.fine_tune
    if found is None:
        return None
    before, after = found.get("divergence_before"), found.get("divergence_after")
    if not found.get("steps") or before is None or after is None:
        return Claim("not fine-tuned", "Fine-tuning was asked for but left out: the warnings say why.", MIXED)
    on = f"{figures.plural(found['steps'], 'step')} on {figures.plural(found.get('inputs', 0), 'input')}"
    numbers = f"{figures.error(before)} → {figures.error(after)}"
    if found["best_step"] == 0 if "best_step" in found else not after < before:
        return Claim(
            "fine-tuning did not help",
            f"Fine-tuning for {on} did not help; the start was kept: give more --steps.",
            MIXED,
        )
    named = "its answers" if found.get("hard_labels") else "the labels"
    labels = f" and {named}" if found.get("labels") else ""
    told = [f"distance from the original {numbers}", *shares(found)]
    text = f"Fine-tuning for {on}{labels}: on held-out inputs {', '.join(told)}."
    if found.get("metric") and found.get("metric_after") is not None:
        moved = f"{found['metric_before']:.4g} → {found['metric_after']:.4g}"
        text += f" The metric {found['metric']} of the rewritten network went {moved}."
    return Claim(f"fine-tuned, {numbers}", text, NEUTRAL)


def shares(found: Mapping[str, Any]) -> list[str]:
    """What else the held-out inputs say of a fine-tuning, before → after."""
    told = []
    for name, what in (("top1", "top-1"), ("agreement", "the original's answer on")):
        before, after = found.get(f"{name}_before"), found.get(f"{name}_after")
        if before is not None and after is not None:
            told.append(f"{what} {figures.percent(before)} → {figures.percent(after)}")
    before, after = found.get("cross_entropy_before"), found.get("cross_entropy_after")
    if before is not None and after is not None:
        told.append(f"cross-entropy {figures.error(before)} → {figures.error(after)}")
    return told


def int8_tuning(record: Record) -> Claim | None:
    """What training with the rounding of INT8 brought on held-out inputs; None where there was none."""
    found = (record.fine_tune or {}).get("int8") or {}
    before, after = found.get("error_before"), found.get("error_after")
    if not found.get("steps") or before is None or after is None:
        return None
    numbers = f"{figures.error(before)} → {figures.error(after)}"
    text = f"Training for {figures.plural(found['steps'], 'more step')} with the rounding of INT8"
    if found.get("kept") != "trained":
        return Claim("INT8 training did not help", f"{text} did not help ({numbers}); the start was kept.", MIXED)
    text = f"{text}: relative error of the rewritten model in INT8 on held-out inputs {numbers}."
    return Claim(f"trained for INT8, {numbers}", text, NEUTRAL)
