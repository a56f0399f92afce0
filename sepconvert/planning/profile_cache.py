"""Profiles of sites kept on disk between runs, because a second budget for the same network needs the same ones.

A profile holds for one model (all its bytes), one set of inputs, and the code that made it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepconvert.data import Dataset
from sepconvert.errors import DataError
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.planning.site_tasks import ProfileEffort

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


def profiles_from_json(text: str, origin: str) -> dict[str, SiteProfile]:
    """Read profiles back.

    Raises:
        DataError: the text holds none; the message names ``origin``.
    """
    try:
        return {output: _from_plain(item) for output, item in json.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{origin} holds no profiles ({type(error).__name__}: {error}); remove it.") from None


def _to_plain(profile: SiteProfile) -> dict[str, Any]:
    return {
        "curves": {form: [curve.ranks, curve.errors] for form, curve in profile.curves.items()},
        "sensitivity": profile.sensitivity,
    }


def _from_plain(data: Mapping[str, Any]) -> SiteProfile:
    curves = {
        form: ErrorCurve(tuple(map(int, ranks)), tuple(map(float, errors)))
        for form, (ranks, errors) in data["curves"].items()
    }
    sensitivity = data["sensitivity"]
    return SiteProfile(curves, None if sensitivity is None else float(sensitivity))


def _code() -> str:
    """Hash of the modules that make a profile: with other fits, old profiles would mislead the plan."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(path for room in CODE for path in (root / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
