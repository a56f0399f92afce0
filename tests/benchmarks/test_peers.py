"""The comparison runs end to end, resumes, and publishes what it measured."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.cells import Store
from tests.benchmarks.methods import METHODS as ALL_METHODS
from tests.benchmarks.peers import convert_all
from tests.benchmarks.published import publish, table

pytestmark = pytest.mark.slow

METHODS = ("spatial_svd", "nd_dw_pw", "ours_dw_pw_data-free")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("peers"))
    convert_all(store, ["fashion_resnet"], METHODS, [1 / 2], redo=False)
    return store


def test_every_cell_states_its_macs_and_what_was_kept(store: Store) -> None:
    for method in METHODS:
        cell = store.read("fashion_resnet", method, 1 / 2)
        assert cell is not None
        assert 0.3 < cell.sites_share <= 0.5
        assert (cell.sites, cell.rewritten, cell.kept_share) == (6, 6, 0.0)
        assert cell.base_top1 == pytest.approx(93.1, abs=0.2)


def test_ours_without_data_is_network_decoupling(store: Store) -> None:
    ours, theirs = (store.read("fashion_resnet", method, 1 / 2) for method in ("ours_dw_pw_data-free", "nd_dw_pw"))
    assert ours.sites_share == theirs.sites_share
    assert ours.error == pytest.approx(theirs.error, rel=1e-3)  # the same kernels, rounded in other places


def test_a_second_run_measures_nothing_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    convert_all(store, ["fashion_resnet"], METHODS, [1 / 2], redo=False)
    assert capsys.readouterr().out == ""


def test_what_is_published_names_every_method_measured_and_every_cell_that_is_empty(
    store: Store, tmp_path: Path
) -> None:
    publish(store, ["fashion_resnet"], [1 / 2], tmp_path)
    record = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))
    assert {cell["method"] for cell in record["cells"]} == set(METHODS)
    assert len(record["empty"]["fashion_resnet"]) == len(ALL_METHODS) - len(METHODS)
    page = (tmp_path / "peers.html").read_text(encoding="utf-8")
    for method in METHODS:
        assert ALL_METHODS[method].label in page
        assert ALL_METHODS[method].label in table(store, "fashion_resnet", [1 / 2])
    assert "<script" not in page
    assert "http" not in page
    assert str(Path.home()) not in page
