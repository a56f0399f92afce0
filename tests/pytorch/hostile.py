"""Files that would run code if a careless loader opened them: every payload makes a folder named ``ran``."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Payload:
    """Unpickling one makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("shift", torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.shift


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def program_file(path: Path) -> Path:
    """An honest exported program with a dynamic batch."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(Tiny().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def script_file(path: Path) -> Path:
    torch.jit.save(torch.jit.script(Tiny().eval()), str(path))
    return path


def altered(path: Path, changes: Callable[[dict[str, bytes]], None]) -> Path:
    """Rewrite an archive's entries; their names are without the archive's own folder."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/", 1)[0]
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    changes(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def bad_sample_inputs(entries: dict[str, bytes], ran: Path) -> None:
    entries["data/sample_inputs/model.pt"] = saved(((torch.zeros(1), Payload(ran)), {}))


def bad_weight(entries: dict[str, bytes], ran: Path) -> None:
    _pickled(entries, "data/weights", "conv.weight", "weight_0", ran)


def bad_constant(entries: dict[str, bytes], ran: Path) -> None:
    _pickled(entries, "data/constants", "hidden", "tensor_0", ran)


def bad_object(entries: dict[str, bytes], ran: Path) -> None:
    _pickled(entries, "data/constants", "hidden", "opaque_obj_0", ran)
    entries["data/constants/opaque_obj_0"] = pickle.dumps(Payload(ran))


def bad_old_weights(entries: dict[str, bytes], ran: Path) -> None:
    entries["data/weights/model.pt"] = saved({"conv.weight": Payload(ran)})


def bad_library(entries: dict[str, bytes], ran: Path) -> None:
    entries["data/aotinductor/model/model.so"] = b"\x7fELF"


def bad_operator(entries: dict[str, bytes], ran: Path) -> None:
    entries["models/model.json"] = entries["models/model.json"].replace(
        b"torch.ops.aten.conv2d.default", b"torch.serialization.os.mkdir"
    )


def bad_size(entries: dict[str, bytes], ran: Path) -> None:
    graph = entries["models/model.json"].decode()
    found = graph[graph.index('"expr_str": "') :].split('"')[3]
    evil = f"__import__('os').mkdir('{ran}')"
    entries["models/model.json"] = graph.replace(json.dumps(found), json.dumps(evil)).encode()


def _pickled(entries: dict[str, bytes], folder: str, name: str, stored: str, ran: Path) -> None:
    config = json.loads(entries[f"{folder}/model_{folder.rsplit('/', 1)[1]}_config.json"])
    config["config"][name] = {"path_name": stored, "is_param": False, "use_pickle": True, "tensor_meta": None}
    entries[f"{folder}/model_{folder.rsplit('/', 1)[1]}_config.json"] = json.dumps(config).encode()
    entries[f"{folder}/{stored}"] = saved(Payload(ran))
