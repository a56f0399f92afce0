"""Sites are profiled on a cluster to the same bytes, also where a worker dies meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import pytest

from sepconvert import Planning
from sepconvert.errors import ClusterError, MissingExtraError
from sepconvert.planning.profile_cache import profiles_to_json
from sepconvert.workflows import cluster
from sepconvert.workflows.cluster import _gave_up, check_cluster
from sepconvert.workflows.opened import Case, open_with_data, select_sites
from sepconvert.workflows.profiles import find_profiles
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source

# What dask does in its own threads and at its own exit is not ours.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning"),
]
SITES = ["/conv1_2/Conv", "/conv2_1/Conv"]


@pytest.fixture
def workers() -> Iterator[Any]:
    """A scheduler and two processes on this machine."""
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
    ) as started:
        yield started


def _profiled(model: Path, address: str | None) -> str:
    request = Request(
        model=model,
        data=model.parent / "fashion_calibration.npz",
        form="dw-pw",
        planning=Planning(cache=False, cluster=address, jobs=1 if address is None else None, include=SITES),
    )
    opened, (data,) = open_with_data(find_source(model), request, [request.data])
    assert data is not None
    sites, _ = select_sites(opened.found.sites, SITES, ())
    few = data.first(24)
    return profiles_to_json(find_profiles(Case(request, opened, sites, few, few), pytest.fail))


def _kill_a_busy_one(workers: Any, killed: list[int]) -> None:
    """Wait until a worker has a site to profile, and kill its process."""
    end = monotonic() + 60
    while monotonic() < end and not killed:
        sleep(0.01)
        busy = [address for address, state in list(workers.scheduler.workers.items()) if state.processing]
        victims = [worker for worker in workers.workers.values() if worker.worker_address in busy]
        if victims:
            killed.append(victims[0].pid)
            os.kill(victims[0].pid, signal.SIGKILL)


def test_a_worker_that_dies_is_survived_and_changes_no_byte(workers: Any, sample_models_dir: Path) -> None:
    model = sample_models_dir / "fashion_vgg.onnx"
    check_cluster(workers.scheduler_address)
    killed: list[int] = []
    killer = Thread(target=_kill_a_busy_one, args=(workers, killed))
    killer.start()
    spread = _profiled(model, workers.scheduler_address)
    killer.join()
    assert len(killed) == 1
    assert spread == _profiled(model, None)


def test_a_worker_of_another_version_is_refused(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "__version__", "99.0")
    with pytest.raises(ClusterError, match=r"a worker has sepconvert .*, and this is 99\.0; install the same"):
        check_cluster(workers.scheduler_address)


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    with pytest.raises(ClusterError, match="cannot be reached"):
        check_cluster("tcp://127.0.0.1:9")


def test_without_dask_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[distributed\]'"):
        check_cluster("tcp://127.0.0.1:9")
    check_cluster(None)


def test_a_task_that_ends_every_worker_is_one_sentence() -> None:
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    with pytest.raises(ClusterError, match=r"ended its worker.*more memory"), _gave_up("tcp://a:8786"):
        raise distributed.KilledWorker("profile_site", SimpleNamespace(address="tcp://b:1"), 3)
