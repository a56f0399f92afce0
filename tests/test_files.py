"""The one writer: all files of a command or none, through links, never in the place of what is no file."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sepconvert.errors import OutputError
from sepconvert.files import check_outputs, need_regular, staged, write_file


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_through_a_link_to_a_regular_file(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_text("old")
    (tmp_path / "link").symlink_to("there/real")
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "real").read_text() == "new"
    assert listing(tmp_path) == ["link", "there"]
    assert listing(tmp_path / "there") == ["real"]


def test_a_link_that_leads_nowhere_is_written_through_only_with_force(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("later")
    with pytest.raises(OutputError, match=r"a link to .*later, which does not"):
        check_outputs([link], force=False)
    check_outputs([link], force=True)
    write_file(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "later").read_text() == "new"
    link.unlink()
    link.symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        check_outputs([link], force=True)


def test_links_in_a_circle_are_one_sentence(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="could not be written"):
        check_outputs([tmp_path / "a"], force=True)


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_refused_and_stays_a_pipe(tmp_path, linked):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe"
    if linked:
        path = tmp_path / "link"
        path.symlink_to("pipe")
    for write in (lambda: check_outputs([path], force=True), lambda: write_file(path, "new")):
        with pytest.raises(OutputError, match="is a device, pipe or socket, not a file"):
            write()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert path.is_symlink() is linked
    with pytest.raises(OSError, match="not a file"):
        need_regular(path)


@pytest.mark.parametrize(
    ("paths", "message"),
    [(["in"], "the input itself"), (["new", "./new"], "named twice"), (["-"], "only for --json"), (["."], "a folder")],
)
def test_places_that_cannot_be_meant_are_refused(tmp_path, monkeypatch, paths, message):
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("input")
    with pytest.raises(OutputError, match=message):
        check_outputs([Path(path) for path in paths], force=True, inputs=[Path("in"), Path("not there")])


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o600)
    write_file(tmp_path / "secret", "new")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_nothing_appears_before_all_is_whole(tmp_path):
    (tmp_path / "a").write_text("old")

    def write_two() -> None:
        with staged() as stage:
            stage.write(tmp_path / "a", "new")
            stage.write(tmp_path / "b", "new")
            assert (tmp_path / "a").read_text() == "old"
            assert not (tmp_path / "b").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_two()
    assert (tmp_path / "a").read_text() == "old"
    assert listing(tmp_path) == ["a"]


@pytest.mark.parametrize("failing", range(3))
def test_if_one_file_cannot_be_renamed_all_become_what_they_were(tmp_path, failing):
    """A folder in the place of a file makes its rename fail, as nothing else does to root."""
    names = ["a", "b", "c"]
    (tmp_path / "a").write_text("old")

    def write_three() -> None:
        with staged() as stage:
            for name in names:
                stage.write(tmp_path / name, "new")
            (tmp_path / names[failing]).unlink(missing_ok=True)
            (tmp_path / names[failing]).mkdir()

    with pytest.raises(OutputError, match=f"{names[failing]} could not be written"):
        write_three()
    assert listing(tmp_path) == sorted({"a", names[failing]})
    assert failing == 0 or (tmp_path / "a").read_text() == "old"


def test_names_that_are_no_text_are_written_as_escapes(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.json")
    write_file(path, f'"{path.name}"')
    assert path.read_bytes() == b'"caf\\udce9.json"'


KILLED = """
import os, signal, sys
from pathlib import Path
from sepconvert.files import staged
with staged() as stage:
    stage.write(Path(sys.argv[1]), "new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_file_in_its_folder(tmp_path):
    (tmp_path / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"
    assert len(listing(tmp_path)) == 2
    write_file(tmp_path / "b", "new")
    assert listing(tmp_path) == ["a", "b"]


def test_a_stage_in_use_is_left_alone(tmp_path):
    with staged() as stage:
        stage.write(tmp_path / "a", "new")
        write_file(tmp_path / "b", "new")
    assert listing(tmp_path) == ["a", "b"]


FULL = """
import resource, signal, sys
from pathlib import Path
from sepconvert.errors import OutputError
from sepconvert.files import staged
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with staged() as stage:
        stage.write(Path(sys.argv[1], "a"), "new")
        stage.write(Path(sys.argv[1], "b"), "x" * 3000)
except OutputError as error:
    print(error)
"""


def test_a_full_disk_at_the_last_file_leaves_all_as_it_was(tmp_path):
    (tmp_path / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "b could not be written (File too large)" in done.stdout
    assert (tmp_path / "a").read_text() == "old"
    assert listing(tmp_path) == ["a"]


def test_a_stage_goes_although_its_folder_cannot_be_opened(tmp_path, monkeypatch):
    """As where a process has all the files open that it may have."""

    def too_many(*args: object, **kwargs: object) -> int:
        raise OSError(24, os.strerror(24))

    (tmp_path / "a").write_text("old")
    with staged() as stage:
        stage.write(tmp_path / "a", "new")
        stage.write(tmp_path / "b", "new")
        monkeypatch.setattr(os, "open", too_many)
        monkeypatch.setattr(os, "scandir", too_many)
    monkeypatch.undo()
    assert listing(tmp_path) == ["a", "b"]
