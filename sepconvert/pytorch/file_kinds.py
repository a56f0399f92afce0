"""What kind of file a PyTorch model is in, told from its first bytes and its zip entries before any loader runs.

PyTorch's own loaders guess, run what they find, and report a wrong guess as a damaged file. The kinds differ by what
their archives hold: ``archive_format`` and ``models/`` (torch.export), ``code/`` (TorchScript), ``data.pkl`` alone
(a pickle: a state_dict or a whole module).
"""

import zipfile
from enum import Enum
from pathlib import Path, PurePosixPath

from sepconvert.errors import ModelError
from sepconvert.files import need_regular

_HEAD = 512
_PICKLE_PROTOCOLS = frozenset(range(2, 6))


class Kind(Enum):
    """Kinds of files; ``OTHER`` is everything that is not PyTorch's, ONNX among it."""

    PICKLE = "a zipped pickle"
    OLD_PICKLE = "a pickle as PyTorch wrote it before version 1.6"
    TAR = "a tar archive as PyTorch wrote it before version 0.2"
    TORCHSCRIPT = "TorchScript"
    PT2 = "an exported program"
    SAFETENSORS = "safetensors"
    OTHER = "something else"


def kind_of(path: Path) -> Kind:
    """Tell a file's kind.

    Raises:
        ModelError: it is a zip archive that PyTorch did not write, is damaged, no regular file, or cannot be read.
    """
    try:
        need_regular(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}); check the path.") from None
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        return Kind.OLD_PICKLE
    if head[257:262] == b"ustar":
        return Kind.TAR
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        return Kind.SAFETENSORS
    return Kind.OTHER


def archive_entries(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """Names of an archive's entries without the archive's own folder.

    Raises:
        ModelError: two entries have the same name: readers may differ in which of them they take.
    """
    names = [_without_root(info.filename) for info in archive.infolist()]
    if len({name.lower() for name in names}) < len(names):
        raise ModelError(
            f"{path} holds two entries of the same name, which PyTorch never writes; do not trust it, and ask for it "
            "from its source again."
        )
    return names


def _without_root(name: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(parts[1:]) if len(parts) > 1 else name


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive_entries(archive, path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"{path} is a damaged zip archive ({error}); export or download the model again.") from None
    folders = {entry.split("/", 1)[0] for entry in entries if "/" in entry}
    if "archive_format" in entries and "models" in folders:
        return Kind.PT2
    if "code" in folders:
        return Kind.TORCHSCRIPT
    if "data.pkl" in entries:
        return Kind.PICKLE
    if "serialized_exported_program.json" in {PurePosixPath(entry).name for entry in entries}:
        raise ModelError(
            f"{path} is an exported program in the format of PyTorch 2.8 and older; load it there and save its module "
            "with a newer version, or pass pkg.module:factory."
        )
    raise ModelError(
        f"{path} is a zip archive that PyTorch did not write ({', '.join(sorted(entries)[:3])} …); pass an .onnx, a "
        ".pt2, a TorchScript file, or pkg.module:factory."
    )
