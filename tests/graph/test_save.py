import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sepconvert.errors import ModelError, OutputError, VerificationError
from sepconvert.files import staged
from sepconvert.graph import save
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.rewrite import rewrite_model
from sepconvert.graph.save import model_bytes, save_model, stage_model
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.geometry import ConvGeometry
from tests.graph.site_models import conv_proto, loaded, random_replacement, site_of

DIGEST = re.compile(r"\.[0-9a-f]{16}\.data$")
GEOMETRY = ConvGeometry(8, 16, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))


def source_in(folder: Path, *, external: bool = False) -> LoadedModel:
    """A model on disk, read back."""
    folder.mkdir(exist_ok=True)
    proto = conv_proto(GEOMETRY, np.random.default_rng(0))
    path = folder / "source.onnx"
    if external:
        onnx.save(proto, path, save_as_external_data=True, location="source.data", size_threshold=0)
    else:
        onnx.save(proto, path)
    return load_model(path)


def rewritten(model: LoadedModel) -> LoadedModel:
    rng = np.random.default_rng(1)
    return rewrite_model(model, [random_replacement(site_of(GEOMETRY), "dw_pw", 2, "concat", rng)]).model


def outputs(model: bytes | Path) -> np.ndarray:
    x = np.random.default_rng(2).standard_normal((1, 8, 6, 6)).astype(np.float32)
    return run_model(model, {"x": x})["z"]


def listing(folder: Path) -> list[str]:
    """Names in a folder, digests of weights left out of them."""
    return sorted(DIGEST.sub(".data", path.name) for path in folder.iterdir())


@pytest.mark.parametrize("source_external", [False, True])
@pytest.mark.parametrize("external", [None, False, True])
def test_a_saved_model_runs_from_another_folder_as_it_did_in_memory(tmp_path, source_external, external):
    model = rewritten(source_in(tmp_path / "in", external=source_external))
    out = tmp_path / "out"
    out.mkdir()
    record = save_model(model, out / "m.onnx", external=external)
    assert listing(out) == (["m.onnx", "m.onnx.data"] if external else ["m.onnx"])
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert record.path == str(out / "m.onnx")
    assert record.sha256 == hashlib.sha256((out / "m.onnx").read_bytes()).hexdigest()
    assert record.bytes == sum(file.stat().st_size for file in out.iterdir())
    again = load_model(out / "m.onnx")
    np.testing.assert_array_equal(outputs(out / "m.onnx"), outputs(model_bytes(again)))


def test_saving_and_serialising_leave_the_model_as_it_is(tmp_path):
    model = rewritten(source_in(tmp_path / "in", external=True))
    before = ir.to_proto(model.ir).SerializeToString()
    save_model(model, tmp_path / "a.onnx", external=True)
    save_model(model, tmp_path / "b.onnx", external=False)
    model_bytes(model)
    assert ir.to_proto(model.ir).SerializeToString() == before
    assert isinstance(model.ir.graph.initializers["b"].const_value, ir.ExternalTensor)


def test_weights_move_into_their_own_file_above_the_limit(tmp_path, monkeypatch):
    model = rewritten(source_in(tmp_path / "in"))
    weights = sum(value.const_value.nbytes for value in model.ir.graph.initializers.values())
    monkeypatch.setattr(save, "INLINE_LIMIT", weights)
    save_model(model, tmp_path / "a.onnx")
    monkeypatch.setattr(save, "INLINE_LIMIT", weights - 1)
    save_model(model, tmp_path / "b.onnx")
    assert listing(tmp_path) == ["a.onnx", "b.onnx", "b.onnx.data", "in"]


def test_external_tensors_in_constant_nodes_come_along(tmp_path):
    proto = conv_proto(GEOMETRY, np.random.default_rng(0))
    weight = proto.graph.initializer.pop(0)
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=weight))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0, convert_attribute=True)
    model = load_model(path)
    save_model(model, tmp_path / "out.onnx")
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert outputs(tmp_path / "out.onnx").shape == (1, 16, 6, 6)


def test_what_does_not_fit_into_one_message_is_refused(tmp_path, monkeypatch):
    model = source_in(tmp_path / "in")
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", 100)
    with pytest.raises(ModelError, match="ends at 2 GB; save it with external data"):
        model_bytes(model)


def refusals(folder: Path):
    (folder / "in").mkdir()
    source = source_in(folder / "in", external=True)
    (folder / "there.onnx").write_bytes(b"old")
    (folder / "in" / "link.onnx").symlink_to(folder / "in" / "source.onnx")
    return source, {
        "in/source.onnx": (True, "belongs to the input itself"),
        "in/link.onnx": (True, "belongs to the input itself"),
        "in/source.data": (True, "belongs to the input itself"),
        "there.onnx": (False, "exists; pass --force"),
        "nowhere/m.onnx": (True, "the folder .* does not exist"),
        "in": (True, "is a folder"),
        "n" * 300: (True, "File name too long"),
    }


def test_places_that_cannot_be_written_are_refused_in_one_sentence(tmp_path):
    source, cases = refusals(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name, (force, message) in cases.items():
        with pytest.raises(OutputError, match=message) as caught:
            save_model(source, tmp_path / name, force=force)
        assert str(caught.value).count("\n") == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    model = source_in(tmp_path / "in")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="read-only"):
        save_model(model, tmp_path / "locked" / "m.onnx")


def test_force_replaces_an_existing_model_and_its_data(tmp_path):
    model = source_in(tmp_path / "in")
    save_model(model, tmp_path / "m.onnx", external=True)
    with pytest.raises(OutputError, match="exists"):
        save_model(model, tmp_path / "m.onnx", external=True)
    save_model(rewritten(model), tmp_path / "m.onnx", force=True, external=True)
    assert listing(tmp_path) == ["in", "m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(outputs(tmp_path / "m.onnx"), outputs(model_bytes(rewritten(model))))


def test_nobody_elses_data_file_is_replaced(tmp_path):
    mine = [tmp_path / name for name in ("m.onnx.data", "m.onnx.0123.data", f"k.onnx.{'0' * 16}.data")]
    for file in mine:
        file.write_bytes(b"mine")
    save_model(source_in(tmp_path / "in"), tmp_path / "m.onnx", external=True)
    assert [file.read_bytes() for file in mine] == [b"mine"] * 3


@pytest.mark.parametrize("external", [False, True])
def test_weights_of_what_was_replaced_go_unless_they_are_the_inputs_too(tmp_path, external):
    model = source_in(tmp_path / "in")
    save_model(model, tmp_path / "m.onnx", external=True)
    (old,) = tmp_path.glob("m.onnx.*.data")
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "m.onnx").read_bytes())
    save_model(rewritten(load_model(tmp_path / "copy.onnx")), tmp_path / "m.onnx", force=True, external=external)
    assert old.exists()
    save_model(rewritten(model), tmp_path / "m.onnx", force=True, external=external)
    assert not old.exists()
    assert len(list(tmp_path.glob("*.data"))) == int(external)


def test_the_same_weights_again_are_the_same_file(tmp_path):
    model = source_in(tmp_path / "in")
    save_model(model, tmp_path / "m.onnx", external=True)
    (old,) = tmp_path.glob("*.data")
    old.write_bytes(b"damaged")
    save_model(model, tmp_path / "m.onnx", force=True, external=True)
    assert list(tmp_path.glob("*.data")) == [old]
    np.testing.assert_array_equal(outputs(tmp_path / "m.onnx"), outputs(model_bytes(model)))


@pytest.mark.parametrize("same", [False, True])
def test_at_no_moment_is_a_model_in_its_place_without_its_own_weights(tmp_path, monkeypatch, same):
    """A process that is killed leaves what there is just before one of its renames or removals."""
    model = source_in(tmp_path / "in")
    save_model(model, tmp_path / "m.onnx", external=True)
    old, new = outputs(model_bytes(model)), outputs(model_bytes(rewritten(model)))
    seen = []

    def looking(change):
        def look(self, *arguments, **keywords):
            moment = load_model(tmp_path / "m.onnx")
            seen.append(any(np.array_equal(outputs(model_bytes(moment)), whole) for whole in (old, new)))
            return change(self, *arguments, **keywords)

        return look

    for name in ("replace", "unlink", "hardlink_to", "rename"):
        monkeypatch.setattr(Path, name, looking(getattr(Path, name)))
    with staged() as stage:
        stage_model(stage, model if same else rewritten(model), tmp_path / "m.onnx", force=True, external=True)
        stage.write(tmp_path / "record", "of it")
    assert len(seen) >= 3
    assert all(seen)


@pytest.mark.parametrize("external", [False, True])
def test_an_interrupt_leaves_nothing_new_behind(tmp_path, monkeypatch, external):
    model = source_in(tmp_path / "in")
    save_model(model, tmp_path / "m.onnx", external=external)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx.checker, "check_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(rewritten(model), tmp_path / "m.onnx", force=True, external=external)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", *(path.name for path in before)}


@pytest.mark.parametrize("old", [True, False])
def test_a_failure_between_the_two_renames_brings_the_old_data_back(tmp_path, monkeypatch, old):
    model = source_in(tmp_path / "in")
    if old:
        save_model(model, tmp_path / "m.onnx", external=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    rename = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "m.onnx":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OutputError, match="Permission denied"):
        save_model(rewritten(model), tmp_path / "m.onnx", force=True, external=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


FULL_DISK = """
import resource, sys
from pathlib import Path
from sepconvert.errors import OutputError
from sepconvert.graph.load import load_model
from sepconvert.graph.save import save_model

model = load_model(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    save_model(model, Path(sys.argv[2]), force=True, external=sys.argv[3] == "external")
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
@pytest.mark.parametrize("how", ["inline", "external"])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, how):
    source = source_in(tmp_path / "in")
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(source.path), str(out), how], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{out} could not be written (File too large); free some space or choose another place.\n"
    assert out.read_bytes() == b"old"
    assert listing(tmp_path) == ["in", "m.onnx"]


def test_an_invalid_result_is_never_written(tmp_path):
    model = source_in(tmp_path / "in")
    broken = LoadedModel(model.ir.clone(), model.path)
    broken.ir.graph[0].attributes["strides"] = ir.AttrInt64s("strides", [1, 1, 1])
    with pytest.raises(VerificationError, match="not valid ONNX"):
        save_model(broken, tmp_path / "m.onnx")
    assert listing(tmp_path) == ["in"]


def test_a_source_that_fails_the_full_check_itself_is_no_bug_of_the_rewrite(tmp_path):
    proto = conv_proto(GEOMETRY, np.random.default_rng(0))
    proto.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 99
    (tmp_path / "in").mkdir()
    onnx.save(proto, tmp_path / "in" / "m.onnx")
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(proto, full_check=True)
    save_model(load_model(tmp_path / "in" / "m.onnx"), tmp_path / "m.onnx")
    assert listing(tmp_path) == ["in", "m.onnx"]


def test_a_model_that_was_never_a_file_can_be_saved(tmp_path):
    save_model(loaded(conv_proto(GEOMETRY, np.random.default_rng(0))), tmp_path / "m.onnx")
    assert listing(tmp_path) == ["m.onnx"]
