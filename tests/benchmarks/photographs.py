"""Photographs from Debian packages that hold many; none of them is in scikit-image.

For calibration:

===========================  ====================================================  =============================
``gcompris-qt-data``         257: animals, buildings, tools, musicians (GCompris)   each its own: mostly CC BY(-SA)
                                                                                    and public domain, a few GFDL, GPL
``mate-backgrounds``         12: plants, water, sky                                 GPL-2+
``lomiri-wallpapers-16.04``  13: mountains, still lifes, a dragonfly                CC BY(-SA) 4.0, one CC0
``palapeli-data``            5: a bridge, a castle, fruits, animals                 GPL-2+
===========================  ====================================================  =============================

For tests, 25 from the examples of ``opencv-doc`` (4.6; Apache-2.0): fruits, animals, buildings, street signs, people.

(Versions 3.1, 1.26, 20.04 and 22.12, chosen by eye on contact sheets; ``usr/share/doc/*/copyright`` of each package
names authors and licences.) They are fetched on first use, made smaller and kept in the cache folder; the packages are
not installed, and no picture is committed.
"""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.fetch import Unavailable, default_cache, unpacked_deb

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "gcompris-qt-data": tuple(
        f"gcompris-qt/rcc/{activity}.rcc"
        for activity in (
            "categorization",
            "erase",
            "explore_farm_animals",
            "explore_monuments",
            "explore_world_animals",
            "explore_world_music",
        )
    ),
    "lomiri-wallpapers-16.04": ("backgrounds/*_by_*.jpg",),
    "mate-backgrounds": ("backgrounds/mate/nature/*.jpg",),
    "palapeli-data": ("palapeli/collection/*.jpg",),
}
"""Files below ``usr/share`` of each package."""
TEST_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "opencv-doc": tuple(
        f"doc/opencv-doc/examples/{picture}.jpg"
        for picture in (
            "data/aero1",
            "data/aero3",
            "data/aloeL",
            "data/apple",
            "data/baboon",
            "data/board",
            "data/building",
            "data/butterfly",
            "data/ela_original",
            "data/fruits",
            "data/home",
            "data/leuvenA",
            "data/messi5",
            "data/orange",
            "data/squirrel_cls",
            "data/stuff",
            "alphamat/input_images/plant",
            "hfs/data/000",
            "hfs/data/002",
            "text/scenetext01",
            "text/scenetext02",
            "text/scenetext03",
            "text/scenetext04",
            "text/scenetext05",
            "text/scenetext06",
        )
    ),
}
"""The same, for test inputs."""
DRAWINGS = ("umang_by_Abhishek_Mudgal", "analogpattern_by_Peter_Nerlich")
SMALLER_SIDE = 640  # pixels that are kept: a crop of a full-sized wallpaper is mostly blur


def packaged_photographs(
    cache: Path | None = None, packages: Mapping[str, tuple[str, ...]] = PACKAGES
) -> list[NDArray[np.uint8]]:
    """Return the photographs of all packages, RGB, shapes (H, W, 3), in a fixed order.

    Raises:
        Unavailable: a package cannot be downloaded, or is not as expected.
    """
    folder = (cache or default_cache()) / "photographs"
    found = []
    for package, patterns in packages.items():
        stored = folder / f"{package}-{_selection_digest(packages)}.npz"
        if not stored.exists():
            _store(stored, _shrunk_photographs(package, patterns, folder))
        with np.load(stored) as pictures:
            found += [np.asarray(Image.open(io.BytesIO(pictures[name].tobytes()))) for name in pictures]
    return found


def _store(path: Path, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")  # tests that run side by side may fetch the same package
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **pictures)
    part.replace(path)


def _shrunk_photographs(package: str, patterns: tuple[str, ...], scratch: Path) -> dict[str, NDArray[np.uint8]]:
    """Photographs of one package as the bytes of JPEG files."""
    with unpacked_deb(package, scratch) as unpacked:
        pictures = {
            name: _shrunk(content)
            for pattern in patterns
            for file in sorted((unpacked / "usr/share").glob(pattern))
            for name, content in _pictures(file)
            if not name.startswith(DRAWINGS)
        }
    if not pictures:
        raise Unavailable(f"{package} holds none of the photographs that are looked for: it is of another version")
    return pictures


def _pictures(file: Path) -> Iterator[tuple[str, bytes]]:
    content = file.read_bytes()
    if file.suffix != ".rcc":
        yield file.stem, content
        return
    for name, picture in read_resources(content).items():
        if name.endswith((".webp", ".jpg")):
            yield name.strip("/").replace("/", "_"), picture


def _shrunk(content: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (2 * SMALLER_SIDE, 2 * SMALLER_SIDE))
    image = image.convert("RGB")
    scale = SMALLER_SIDE / min(image.size)
    if scale < 1:
        sides = (round(image.width * scale), round(image.height * scale))
        image = image.resize(sides, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=95)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def read_resources(content: bytes) -> dict[str, bytes]:
    """Read a Qt resource file (``.rcc``, formats 1 to 3): files by path, in the order of its tree.

    The header gives the format and where the tree, the data and the names begin; a node of the tree is the offset of
    its name, flags (1: zlib, 2: folder, 4: zstd), and for a folder the number and index of its children, for a file
    the offset of its data. All numbers are big-endian. Files compressed by zstd are left out.
    """
    magic, form, tree, data, names = struct.unpack_from(">4s4I", content)
    if magic != b"qres":
        raise Unavailable("a resource file is not in Qt's format")
    size = 22 if form >= 2 else 14
    found: dict[str, bytes] = {}

    def walk(index: int, path: str) -> None:
        name, flags = struct.unpack_from(">IH", content, tree + index * size)
        if index:
            (length,) = struct.unpack_from(">H", content, names + name)
            path += "/" + content[names + name + 6 :][: 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack_from(">II", content, tree + index * size + 6)
            for child in range(first, first + count):
                walk(child, path)
        elif not flags & 4:
            (start,) = struct.unpack_from(">I", content, tree + index * size + 10)
            (length,) = struct.unpack_from(">I", content, data + start)
            raw = content[data + start + 4 :][:length]
            found[path] = zlib.decompress(raw[4:]) if flags & 1 else raw

    walk(0, "")
    return found


def _selection_digest(packages: Mapping[str, tuple[str, ...]]) -> str:
    return hashlib.sha256(repr((packages, DRAWINGS, SMALLER_SIDE)).encode()).hexdigest()[:8]
