"""Profiles of sites on the machines of a dask cluster.

Nothing else is spread: fits follow each other, since a site is fitted to what the rewritten sites before it give, and
times are taken on this machine.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sepconvert import __version__
from sepconvert.errors import ClusterError, MissingExtraError, one_line

TIMEOUT = 20  # seconds


def check_cluster(address: str | None) -> None:
    """Refuse, before any work is done, a cluster that cannot be used.

    Raises:
        MissingExtraError: dask is not installed.
        ClusterError: there is no scheduler at this address, or a worker has another version of sepconvert.
    """
    with spread_over(address):
        pass


@contextmanager
def spread_over(address: str | None) -> Iterator[None]:
    """Let joblib's tasks run on a cluster for as long as the block lasts; None: where the caller has them run.

    A worker that dies is survived: the scheduler gives its tasks to others, up to three times.

    Args:
        address: of a dask scheduler, as ``tcp://192.168.0.1:8786``.

    Raises:
        MissingExtraError: dask is not installed.
        ClusterError: the cluster cannot be reached, differs, or gave up.
    """
    if address is None:
        yield
        return
    from joblib import parallel_config

    with _connected(address) as client, _gave_up(address), parallel_config(backend="dask", client=client):
        yield


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the cluster."""
    if find_spec("distributed") is None:
        raise MissingExtraError("--cluster needs dask: pip install '.[distributed]'.")
    distributed: Any = import_module("distributed")  # its types are not known
    try:
        client = distributed.Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--cluster {address} cannot be reached ({one_line(error)}); check the address, and that dask scheduler "
            "runs there."
        ) from None
    with client:
        try:
            found = client.run(_version)
        except ModuleNotFoundError:
            raise ClusterError(
                f"--cluster {address}: a worker lacks sepconvert; install {__version__} where it runs."
            ) from None
        _check_versions(found, address)
        yield client


@contextmanager
def _gave_up(address: str) -> Iterator[None]:
    """Say what became of a cluster that did not finish its tasks."""
    lost: Any = import_module("distributed")
    try:
        yield
    except lost.KilledWorker as error:
        raise ClusterError(
            f"--cluster {address}: one task after the other ended its worker ({one_line(error)}); give the workers "
            "more memory, or leave --cluster away."
        ) from None
    except (CancelledError, lost.comm.CommClosedError) as error:
        raise ClusterError(
            f"--cluster {address} is gone ({one_line(error)}); start it again, or leave --cluster away."
        ) from None


def _version() -> str:
    return __version__


def _check_versions(found: Mapping[str, str], address: str) -> None:
    if not found:
        raise ClusterError(f"--cluster {address} has no workers; start some with dask worker {address}.")
    other = sorted(set(found.values()) - {__version__})
    if other:
        raise ClusterError(
            f"--cluster {address}: a worker has sepconvert {other[0]}, and this is {__version__}; install the same."
        )
