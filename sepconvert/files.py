"""The one way to write files: all outputs of a command whole, or none of them.

Every output is first written, under its own name, in a hidden folder beside its place (so on the same file system);
when all are whole they are renamed into place. A symbolic link is written through to the file that it leads to. A
killed process leaves such a folder behind: it holds a lock on it that ends with the process, and whoever next writes
into the same place removes the folders that nobody holds any more.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sepconvert.errors import OutputError

if sys.platform != "win32":
    import fcntl

_PREFIX = ".sepconvert-"
_STDOUT = "-"


def check_outputs(paths: Iterable[Path], *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work is done, what could not be written at the end.

    Args:
        paths: files that will be written.
        force: files that exist may be replaced.
        inputs: files that the same command reads.

    Raises:
        OutputError: a folder is missing or read-only, a path is no regular file, is an input, is named twice, or
            exists (be it as a link that leads nowhere) and ``force`` is not set.
    """
    read = [path for path in inputs if os.path.exists(path)]  # noqa: PTH110 - unlike Path's, it never raises
    taken: set[Path] = set()
    for path in paths:
        with writing(path):
            target = _target(path)
            if target.exists() and any(target.samefile(other) for other in read):
                raise OutputError(f"{path} belongs to the input itself; choose another name for the output.")
            if target in taken:
                raise OutputError(f"{path} is named twice on this command line; give every file its own name.")
            taken.add(target)
            _check_place(path, target)
            if os.path.lexists(path) and not force:
                where = f" (a link to {target}, which does not)" if not target.exists() else ""
                raise OutputError(f"{path} exists{where}; pass --force to replace it, or choose another name.")


def read_regular(path: Path) -> bytes:
    """Read a file that must be a regular one: devices and pipes never end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    need_regular(path)
    return path.read_bytes()


def need_regular(path: Path) -> None:
    """Raise ``OSError`` with a reason if ``path``, behind links, is missing or no regular file."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise OSError(0, f"it is {kind}, not a file")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).rstrip(".")
        raise OutputError(f"{path} could not be written ({reason}); free some space or choose another place.") from None


@contextmanager
def folder_made(folder: Path | None) -> Iterator[None]:
    """Make a folder (its last level) that is not there yet; it goes again if nothing was put into it.

    Raises:
        OutputError: it is a file, or cannot be made.
    """
    if folder is None or folder.is_dir():
        yield
        return
    if os.path.lexists(folder):
        raise OutputError(f"{folder} is a file, not a folder; name another one.")
    with writing(folder):
        folder.mkdir()
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def staged() -> Iterator["Stage"]:
    """Give a stage; what was written on it appears at the end, all of it, or after an error nothing."""
    stage = Stage()
    try:
        yield stage
        stage.publish()
    finally:
        stage.discard()


def write_file(path: Path, data: bytes | str) -> None:
    """Write one file, whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    with staged() as stage:
        stage.write(path, data)


class Stage:
    """Files on their way; see ``staged``."""

    def __init__(self) -> None:
        self._folders: dict[Path, tuple[Path, int | None]] = {}
        self._files: dict[Path, tuple[Path, Path]] = {}  # by target: where it is meanwhile, and what the user calls it
        self._by_content: set[Path] = set()
        self._replaced: list[Path] = []

    def place(self, path: Path, *, by_content: bool = False) -> Path:
        """Return where to write the file that will be ``path``, if anything; it has the same name there.

        Args:
            path: the file.
            by_content: its name tells its content, so that one that is there holds the same and need not be kept.

        Raises:
            OutputError: nothing can be written there, or ``path`` was placed before.
        """
        with writing(path):
            target = _target(path)
            if target in self._files:
                raise OutputError(f"{path} is written twice; give every file its own name.")
            _check_place(path, target)
            if target.parent not in self._folders:
                _remove_abandoned(target.parent)
                self._folders[target.parent] = _hold_folder(target.parent)
            meanwhile = self._folders[target.parent][0] / target.name
        self._files[target] = (meanwhile, path)
        if by_content:
            self._by_content.add(target)
        return meanwhile

    def write(self, path: Path, data: bytes | str) -> None:
        """Write the whole file that will be ``path``.

        Text goes out as UTF-8; names of files that are not text themselves as escapes, which JSON reads back.
        """
        meanwhile = self.place(path)
        with writing(path):
            meanwhile.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)

    def replaces(self, path: Path) -> None:
        """Name a file that only what is replaced has needed: it goes when everything else is in its place."""
        self._replaced.append(path)

    def publish(self) -> None:
        """Rename all files into place, in turn; if one cannot be, those before it become what they were."""
        undo: list[tuple[Path, Path | None]] = []
        try:
            for target, (meanwhile, path) in self._files.items():
                if not meanwhile.exists():
                    continue  # there was nothing to put into it
                with writing(path):
                    if target.exists():
                        shutil.copymode(target, meanwhile)
                    if not (target in self._by_content and target.exists()):
                        previous = _keep_previous(target, meanwhile) if len(self._files) > 1 else None
                        undo.append((target, previous))
                    meanwhile.replace(target)
        except BaseException:
            if len(self._files) > 1:
                for target, previous in reversed(undo):
                    _restore(target, previous)
            raise
        for path in self._replaced:
            with suppress(OSError):
                path.unlink()

    def discard(self) -> None:
        """Remove what is left of the stage, by name: to look into a folder, a process may have too many files open."""
        for meanwhile, _ in self._files.values():
            for path in (meanwhile, _previous(meanwhile)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        for folder, lock in self._folders.values():
            with suppress(OSError):
                folder.rmdir()
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)
        self._folders.clear()


def _target(path: Path) -> Path:
    """The file that is meant, behind links."""
    if str(path) == _STDOUT:
        raise OutputError("'-' is stdout only for --json, which prints the record; name a file.")
    try:
        return path.resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle (before Python 3.13), a NUL
        raise OSError(0, str(error)) from None


def _check_place(path: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {target.parent} does not exist; create it first.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it.")
    # Asked of the path itself: a link into /proc leads to pipes that have no name.
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is a device, pipe or socket, not a file; name a file (--json - prints the record).")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: the folder {target.parent} is read-only; choose another one.")


def _keep_previous(target: Path, meanwhile: Path) -> Path | None:
    """Keep a file that is about to be replaced, under a second name: it is never missing from its place."""
    if not target.exists():
        return None
    previous = _previous(meanwhile)
    try:
        previous.hardlink_to(target)
    except OSError:  # file systems without hard links
        shutil.copy2(target, previous)
    return previous


def _previous(meanwhile: Path) -> Path:
    return meanwhile.with_name(f"{meanwhile.name}.previous")


def _restore(target: Path, previous: Path | None) -> None:
    with suppress(OSError):
        if previous is None:
            target.unlink()
        else:
            previous.replace(target)


def _hold_folder(parent: Path) -> tuple[Path, int | None]:
    """Make a hidden folder that is ours as long as this process lives; give it and its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
        lock = _lock(folder, wait=True)
        if folder.exists():
            return folder, lock
        if lock is not None:  # somebody took the folder for abandoned before it was locked
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Return a lock that ends with this process; None if another one has it, or the file system knows no locks."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
