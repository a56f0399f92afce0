"""Profiles of sites kept on disk between runs, because a second budget for the same network needs the same ones.

A profile holds for one model (all its bytes), one set of inputs, and the code that made it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepconvert.data import Dataset
from sepconvert.errors import DataError
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.record.plain import from_json
from sepconvert.separable.forms import FORMS

Profiles = Mapping[str, SiteProfile]

CODE = ("separable", "fitting", "planning")


def profile_key(
    model: str, sites: Sequence[ConvSite], forms: Sequence[str], inputs: Dataset, effort: ProfileEffort, seed: int
) -> str:
    """Name a profile by everything it depends on.

    Args:
        model: digest of the model with all its weights.
        sites: the profiled sites.
        forms: keys of ``FORMS``.
        inputs: the calibration inputs.
        effort: how much is looked at.
        seed: of the choice of inputs and positions.
    """
    made_of = [model, [repr(site) for site in sites], list(forms), inputs.sample_hashes(), repr(effort), seed, _code()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def profiles_to_json(profiles: Profiles) -> str:
    """Serialise profiles."""
    return json.dumps({output: _to_plain(profile) for output, profile in profiles.items()})


def profiles_from_json(text: str, origin: str, outputs: Collection[str]) -> dict[str, SiteProfile]:
    """Read the profiles of sites back, named by their outputs.

    Raises:
        DataError: the text does not hold just them; the message names ``origin``.
    """
    try:
        plain: dict[str, _PlainProfile] = from_json(dict[str, _PlainProfile], text)
        if plain.keys() != set(outputs):
            raise ValueError(f"it holds {len(plain)} sites, not the {len(outputs)} of the model")
        return {output: _from_plain(item) for output, item in plain.items()}
    except ValueError as error:
        raise DataError(f"{origin} holds no profiles ({error}); remove it.") from None


@dataclass(frozen=True, slots=True)
class _PlainProfile:
    curves: dict[str, tuple[tuple[int, ...], tuple[float, ...]]]
    sensitivities: dict[str, float]
    typical: dict[str, float]
    growth: float
    rounded: dict[str, tuple[tuple[int, ...], tuple[float, ...]]]


def _to_plain(profile: SiteProfile) -> dict[str, Any]:
    return {
        "curves": {form: [curve.ranks, curve.errors] for form, curve in profile.curves.items()},
        "sensitivities": dict(profile.sensitivities),
        "typical": dict(profile.typical),
        "growth": profile.growth,
        "rounded": {form: [curve.ranks, curve.errors] for form, curve in profile.rounded.items()},
    }


def _from_plain(plain: _PlainProfile) -> SiteProfile:
    if not plain.curves.keys() <= FORMS.keys():
        raise ValueError(f"it holds unknown forms ({', '.join(plain.curves)})")
    curves = {form: ErrorCurve(*curve) for form, curve in plain.curves.items()}
    rounded = {form: ErrorCurve(*curve) for form, curve in plain.rounded.items()}
    return SiteProfile(curves, plain.sensitivities, plain.typical, plain.growth, rounded)


def _code() -> str:
    """Hash of the modules that make a profile: with other fits, old profiles would mislead the plan."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(path for room in CODE for path in (root / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
