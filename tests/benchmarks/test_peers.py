"""The comparison runs end to end, resumes, and publishes what it measured."""

from pathlib import Path

import pytest

from sepconvert.record import Record
from tests.benchmarks.cells import Store
from tests.benchmarks.peers import convert_all
from tests.benchmarks.published import publish, table

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


def test_what_is_published_names_every_method_and_no_folder(store: Store, tmp_path: Path) -> None:
    publish(store, ["fashion_resnet"], [1 / 2], tmp_path)
    record = Record.read(tmp_path / "peers_fashion_resnet.json")
    assert record.source.path == "fashion_resnet.onnx"
    assert len(record.sweep.points) == 1
    assert len(record.sweep.baselines) == 2
    assert table(store, "fashion_resnet", [1 / 2]) in (tmp_path / "peers.md").read_text()
    assert (tmp_path / "peers_fashion_resnet.html").stat().st_size > 10_000
