"""A form from a file outside the package goes all the way, once it stands in the table."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sepconvert
from sepconvert.record import Record
from sepconvert.separable.forms import (
    FORMS,
    break_even,
    cost_of,
    layers_at,
    max_useful_rank,
    reconstruct,
)
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows import Measure, Planning
from tests import pw_conv
from tests.commands import Run
from tests.pytorch.nets import small

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

# 8→16 channels, 3×3: rank R takes R·(8 + 9·16) weights of 9·8·16.
NARROW = ConvGeometry(8, 16, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, pw_conv.NAME, pw_conv)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the module's weights and of inputs."""
    folder = tmp_path_factory.mktemp("new_form")
    torch.save(small().state_dict(), folder / "small.pt")
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.standard_normal((40, 3, 20, 24), dtype=np.float32))
    return folder


def test_a_form_is_nothing_but_its_file_and_its_place_in_the_table() -> None:
    package = Path(sepconvert.__file__).parent
    assert not [path for path in package.rglob("*.py") if re.search(r"\bpw[_-]conv\b(?![_-])", path.read_text())]


def test_costs_and_ranks_follow_from_its_layers() -> None:
    assert [cost_of(pw_conv.NAME, NARROW, rank).params for rank in (1, 2, 7)] == [152, 304, 1064]
    assert max_useful_rank(pw_conv.NAME, NARROW) == 7
    assert break_even(pw_conv.NAME, NARROW) == pytest.approx(9 * 8 * 16 / 152)


def test_every_command_takes_a_form_from_outside(
    files: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    model = ["tests.pytorch.nets:small", "--weights", files / "small.pt", "--input", "x:1x3x20x24"]
    budget = ["--form", "pw-conv", "--macs", "0.7", "--data", files / "data.npz", "--jobs", "1", "--no-cache"]
    budget.append("--allow-loss")  # of a network of random weights
    written = ["-o", tmp_path / "new.onnx", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    shown = run("rewrite", *model, *budget, *written).err
    record = Record.read(tmp_path / "r.json")
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    assert {site.form for site in rewritten} == {"pw-conv"}
    for site in rewritten:
        assert site.layers is not None
        assert [layer.kind for layer in site.layers.branch] == ["pointwise", "conv"]
        assert site.error_heldout is not None
        assert site.error_by_rank is not None
        assert f"pw-conv R={site.rank}" in shown
    assert record.self_check is not None
    assert record.self_check.sites == len(rewritten)
    assert record.latency[0].after is not None
    assert [form.name for form in record.forms][-1] == "pw-conv"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"pw-conv, rank {rewritten[0].rank}" in page
    assert page.count("<figcaption>After</figcaption>") == len(rewritten)
    curves = run("analyze", *model, "--json", "-").record["sites"][0]["error_by_rank"]
    assert "pw-conv" in {point["form"] for point in curves}
    module = sepconvert.rebuild(small, plan=tmp_path / "new.plan.json", weights=tmp_path / "new.safetensors")
    assert type(module.get_submodule(f"{rewritten[0].name}.expand")) is torch.nn.Conv2d


def test_a_plan_by_measured_latency_and_the_module_it_gives(files: Path) -> None:
    net, planning = small(), Planning(cache=False, jobs=1)
    result = sepconvert.rewrite(
        net,
        form="any",
        speedup=1.01,
        data=str(files / "data.npz"),
        example_inputs=torch.zeros(1, 3, 20, 24),
        measure=Measure(),
        planning=planning,
    )
    x = torch.randn(4, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert result.module(x).shape == net(x).shape


def test_layers_and_factors_of_a_form_from_outside_agree() -> None:
    factors = pw_conv.draw(NARROW, 5, np.random.default_rng(0))
    found = layers_at(Scheme(pw_conv.NAME, 5, "stacked"), NARROW)
    assert [layer.weight_shape(NARROW.kernel) for layer, _ in found.written] == [
        (5, 8, 1, 1),
        (16, 5, 3, 3),
    ]
    assert reconstruct(factors).shape == NARROW.weight_shape
