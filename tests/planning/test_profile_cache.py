"""Profiles kept between runs: only for the same network, inputs and options, and never instead of an answer."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sepconvert.data import Dataset, Preprocess, load_data
from sepconvert.errors import DataError
from sepconvert.graph.save import digest
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.planning.profile import EFFORT
from sepconvert.planning.profile_cache import profile_key, profiles_from_json, profiles_to_json
from sepconvert.workflows import profiles as workflow
from sepconvert.workflows.opened import Case, open_model
from sepconvert.workflows.options import Measure, Planning
from sepconvert.workflows.profiles import find_profiles
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source

FOUND = {
    "a": SiteProfile({"dw_pw": ErrorCurve((1, 3), (0.5, 0.125))}, {"boxes": 0.1, "scores[:, 4:]": 0.5}),
    "b": SiteProfile({"spatial": ErrorCurve((8,), (1e-7,))}, rounded={"spatial": ErrorCurve((8,), (1e-4,))}),
}
FALLING_RANKS = '{"a": {"curves": {"dw_pw": [[2, 1], [0, 0]]}, "sensitivities": {}, "told_at": 0}}'


@pytest.fixture
def case(sample_models_dir: Path) -> Case:
    """The second site of a trained network, and forty calibration inputs."""
    path = sample_models_dir / "fashion_vgg.onnx"
    opened = open_model(find_source(path), Request(model=str(path)), {})
    data = load_data(str(sample_models_dir / "fashion_calibration.npz"), opened.shapes.inputs, Preprocess()).first(40)
    request = Request(model=opened.model.path, form="spatial", measure=Measure(latency=False))
    return Case(request, opened, opened.found.sites[1:2], data, data)


def test_profiles_survive_their_json() -> None:
    assert profiles_from_json(profiles_to_json(FOUND), "file", list(FOUND)) == FOUND


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": {}}', FALLING_RANKS])
def test_what_holds_no_profiles_is_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match="file holds no profiles"):
        profiles_from_json(text, "file", list(FOUND))


def test_the_key_depends_on_everything_a_profile_depends_on(case: Case) -> None:
    model, data = digest(case.opened.model), case.calibration
    assert data is not None

    def key(whole: str = model, inputs: Dataset = data, form: str = "spatial", seed: int = 0, ranks: int = 3) -> str:
        return profile_key(whole, case.sites, [form], inputs, replace(EFFORT, ranks=ranks), seed)

    every = [key(), key(model[:-1] + "x"), key(inputs=data.first(39)), key(form="dw_pw"), key(seed=1), key(ranks=4)]
    assert len(set(every)) == len(every)
    assert profile_key(model, case.opened.found.sites[2:3], ["spatial"], data, EFFORT, 0) not in every
    assert key() == every[0]


def test_a_second_plan_takes_the_profiles_of_the_first_unless_they_are_damaged(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "default_folder", lambda: tmp_path)
    steps: list[str] = []
    request = replace(case.request, progress=lambda what, done, total: steps.append(what))
    case = replace(case, request=request)
    first = find_profiles(case, pytest.fail)
    assert any(step.startswith("Profile") for step in steps)
    steps.clear()
    assert find_profiles(case, pytest.fail) == first
    assert steps == []
    (file,) = (tmp_path / "profiles").iterdir()
    file.write_text("{}}")
    warnings: list[str] = []
    again = find_profiles(case, warnings.append)
    assert len(warnings) == 1
    assert str(file) in warnings[0]
    _assert_alike(again, first)
    assert find_profiles(case, pytest.fail) == again


def test_without_the_cache_nothing_is_kept(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "default_folder", lambda: tmp_path)
    uncached = replace(case.request, planning=Planning(cache=False))
    find_profiles(replace(case, request=uncached), pytest.fail)
    assert list(tmp_path.iterdir()) == []


def _assert_alike(one: Mapping[str, SiteProfile], other: Mapping[str, SiteProfile]) -> None:
    assert one.keys() == other.keys()
    for name, profile in one.items():
        for form, curve in profile.curves.items():
            np.testing.assert_allclose(curve.errors, other[name].curves[form].errors, rtol=1e-6)
