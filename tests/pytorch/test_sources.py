"""Loading: honest files load, and nothing in a hostile one is ever run."""

import contextlib
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sepconvert.errors import ModelError
from sepconvert.pytorch.file_kinds import Kind, kind_of
from sepconvert.pytorch.sources import file_model
from sepconvert.pytorch.states import load_state, read_state
from tests.pytorch import hostile
from tests.pytorch.hostile import Payload, Tiny, altered, program_file, saved, script_file

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Change = Callable[[dict[str, bytes], Path], None]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return program_file(tmp_path_factory.mktemp("program") / "tiny.pt2").read_bytes()


def test_every_kind_of_file_is_told_before_a_loader_runs(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "program.bin").write_bytes(program)
    (tmp_path / "state.onx").write_bytes(saved(Tiny().state_dict()))
    (tmp_path / "old.bin").write_bytes(saved(Tiny().state_dict(), _use_new_zipfile_serialization=False))
    (tmp_path / "other").write_bytes(b"\x08\x08")
    script_file(tmp_path / "script.bin")
    with tarfile.open(tmp_path / "tar.bin", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("sys_info"), io.BytesIO())
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "program.bin": Kind.PT2,
        "state.onx": Kind.PICKLE,
        "old.bin": Kind.OLD_PICKLE,
        "script.bin": Kind.TORCHSCRIPT,
        "tar.bin": Kind.TAR,
        "other": Kind.OTHER,
    }


def test_honest_files_load(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt2").write_bytes(program)
    assert file_model(tmp_path / "tiny.pt2").state().keys() == Tiny().state_dict().keys()
    assert file_model(script_file(tmp_path / "tiny.pt")).is_script


@pytest.mark.parametrize("name", ["net.pt", "net.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_with_the_names_it_asks_for(name: str, zipped: bool, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(saved({"weight": Payload(ran)}, _use_new_zipfile_serialization=zipped))
    for read in (read_state, file_model):
        with pytest.raises(
            ModelError, match=r"refused: its pickle asks for \w+\.mkdir.*torch\.save\(model\.state_dict"
        ):
            read(path)
    assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists(), "the payload would not have run anyhow"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_is_refused_with_its_classes(zipped: bool, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(saved(Tiny(), _use_new_zipfile_serialization=zipped))
    with pytest.raises(ModelError, match=r"hostile\.Tiny.*pkg\.module:factory"):
        file_model(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "change",
    [
        hostile.bad_sample_inputs,
        hostile.bad_weight,
        hostile.bad_constant,
        hostile.bad_object,
        hostile.bad_old_weights,
        hostile.bad_library,
        hostile.bad_operator,
        hostile.bad_size,
    ],
)
def test_a_hostile_part_of_an_exported_program_is_refused_and_never_run(
    change: Change, program: bytes, tmp_path: Path
) -> None:
    ran, path = tmp_path / "ran", tmp_path / "tiny.pt2"
    path.write_bytes(program)
    altered(path, lambda entries: change(entries, ran))
    with pytest.raises(ModelError, match="refused"):
        file_model(path)
    assert not ran.exists()


@pytest.mark.parametrize("change", [hostile.bad_sample_inputs, hostile.bad_weight, hostile.bad_size])
def test_pytorch_s_own_loader_would_have_run_them(change: Change, program: bytes, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "tiny.pt2"
    path.write_bytes(program)
    altered(path, lambda entries: change(entries, ran))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # what becomes of the rest of the file does not matter here
            torch.export.load(path)
    assert ran.exists()


def test_a_hostile_pickle_in_torchscript_is_refused_and_never_run(tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", script_file(tmp_path / "net.pt")
    altered(path, lambda entries: entries.update({"constants.pkl": pickle.dumps(Payload(ran), protocol=2)}))
    with pytest.raises(ModelError, match=r"constants\.pkl\) is refused.*mkdir"):
        file_model(path)
    assert not ran.exists()


def test_torchscript_that_writes_files_when_it_runs_is_refused(tmp_path: Path) -> None:
    path = script_file(tmp_path / "net.pt")

    def change(entries: dict[str, bytes]) -> None:
        code = next(name for name in entries if name.startswith("code/") and name.endswith(".py"))
        entries[code] += b'\n  def later(self, x: Tensor) -> None:\n    torch.save(x, "ran")\n'

    altered(path, change)
    with pytest.raises(ModelError, match="reads or writes files"):
        file_model(path)


def test_two_entries_of_one_name_are_refused(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt2"
    path.write_bytes(program)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data/sample_inputs/MODEL.pt", b"")
    with pytest.raises(ModelError, match="two entries of the same name"):
        kind_of(path)


def test_weights_alone_ask_for_the_network_they_belong_to(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(saved(Tiny().state_dict()))
    with pytest.raises(ModelError, match=r"pass pkg\.module:factory.*--weights .*w\.pt"):
        file_model(tmp_path / "w.pt")


def test_a_checkpoint_with_one_state_dict_in_it_will_do(tmp_path: Path) -> None:
    state = Tiny().state_dict()
    (tmp_path / "checkpoint.pt").write_bytes(saved({"epoch": 3, "state_dict": state, "loss": 0.1}))
    assert read_state(tmp_path / "checkpoint.pt").keys() == state.keys()
    (tmp_path / "two.pt").write_bytes(saved({"model": state, "ema": state}))
    with pytest.raises(ModelError, match=r"several state_dicts \(model, ema\)"):
        read_state(tmp_path / "two.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w"])
def test_weights_from_a_pipe_are_refused_unread(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match=r"cannot be read \(it is a device, pipe or socket, not a file\)"):
        read_state(tmp_path / name)


def test_keys_that_do_not_fit_are_named_all_at_once() -> None:
    state = Tiny().state_dict()
    state["extra.weight"] = state.pop("shift")
    state["conv.bias"] = torch.zeros(5)
    with pytest.raises(
        ModelError, match=r"missing shift; unexpected extra\.weight; of another shape conv\.bias 5 instead of 4"
    ):
        load_state(Tiny(), state, "w.pt")


def test_old_files_load_whatever_number_follows_the_pickles(tmp_path: Path) -> None:
    # A storage of 128 numbers begins with the byte 0x80, as a pickle does.
    module = nn.Linear(128, 1, bias=False)
    (tmp_path / "w.pt").write_bytes(saved(module.state_dict(), _use_new_zipfile_serialization=False))
    assert torch.equal(read_state(tmp_path / "w.pt")["weight"], module.weight)


@pytest.mark.parametrize("size", [3, 40, 400])
def test_cut_off_files_are_said_to_be_damaged(size: int, program: bytes, tmp_path: Path) -> None:
    for name, data in (("a.pt2", program), ("b.pt", saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False))):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(ModelError):
            file_model(tmp_path / name)
