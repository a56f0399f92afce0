"""The command line as its user meets it: exit codes, one sentence for an error, nothing half-written."""

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
import typer

from sepconvert import cli
from sepconvert.record import SCHEMA
from sepconvert.workflows import rewriting
from tests.commands import Done, Run


def one_sentence(done: Done) -> bool:
    lines = done.err.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("sepconvert: ") and lines[0].endswith(".")


@pytest.fixture
def resnet(sample_models_dir: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "resnet.onnx"
    copy.write_bytes((sample_models_dir / "fashion_resnet.onnx").read_bytes())
    return copy


def test_analyze_open_nsfw_accounts_for_all_53_convolutions(run: Run, open_nsfw: Path) -> None:
    done = run("analyze", open_nsfw, "--json", "-")
    record = json.loads(done.out)
    assert done.code == 0
    assert len(record["sites"]) == 17
    assert [skip["kind"] for skip in record["skipped"]] == ["pointwise"] * 36 + ["linear"]
    assert record["totals"]["before"]["conv_macs"] == pytest.approx(1.07e9, rel=0.005)
    assert record["totals"]["before"]["flops"] == 2 * record["totals"]["before"]["macs"]
    assert record["schema"] == SCHEMA


def test_analyze_prints_its_table_on_stderr_only(run: Run, resnet: Path) -> None:
    done = run("analyze", resnet)
    assert done.out == ""
    assert "MACs per sample" in done.err
    assert max(map(len, done.err.splitlines())) <= 80


def test_quiet_prints_nothing(run: Run, resnet: Path) -> None:
    assert run("analyze", resnet, "--quiet") == Done(0, "", "")


@pytest.mark.parametrize(("form", "rank"), [("dw-pw", "2"), ("pw-dw", "2"), ("spatial", "0.5"), ("pw-dw-pw", "0.5")])
@pytest.mark.parametrize("lowering", ["stacked", "branches", "concat"])
def test_rewrite_open_nsfw_in_every_form_and_lowering(
    run: Run, open_nsfw: Path, tmp_path: Path, form: str, rank: str, lowering: str
) -> None:
    out = tmp_path / "out.onnx"
    done = run(
        "rewrite", open_nsfw, "-o", out, "--form", form, "--rank", rank, "--lowering", lowering, "--no-latency",
        "--json", "-", "--quiet",
    )  # fmt: skip
    applies = {"dw-pw": ("stacked", "branches", "concat"), "pw-dw": ("stacked", "branches")}.get(form, ("stacked",))
    if lowering not in applies:
        assert (done.code, out.exists()) == (2, False)
        assert one_sentence(done)
        return
    record = json.loads(done.out)
    rewritten = [site for site in record["sites"] if site["status"] == "rewritten"]
    kept = [site for site in record["sites"] if site["status"] == "kept"]
    assert len(rewritten) >= 16
    assert all("break-even at rank" in site["reason"] for site in kept)
    assert record["self_check"]["sites"] == len(rewritten)
    before, after = record["totals"]["before"], record["totals"]["after"]
    saved = sum(site["macs"] - site["macs_after"] for site in rewritten)
    assert before["macs"] - after["macs"] == saved
    assert {site["lowering"] for site in rewritten} == {lowering}
    onnx.checker.check_model(str(out), full_check=True)


def test_a_rank_above_break_even_everywhere_writes_nothing(run: Run, open_nsfw: Path, tmp_path: Path) -> None:
    done = run("rewrite", open_nsfw, "-o", tmp_path / "out.onnx", "--form", "pw-dw", "--rank", "9")
    assert done.code == 1
    assert one_sentence(done)
    assert "break-even" in done.err
    assert list(tmp_path.iterdir()) == []


def test_rewrite_writes_model_record_and_page(run: Run, resnet: Path, tmp_path: Path, sample_models_dir: Path) -> None:
    out, page, record = tmp_path / "small.onnx", tmp_path / "page.html", tmp_path / "record.json"
    done = run(
        "rewrite", resnet, "-o", out, "--macs", "0.5", "--test-data", sample_models_dir / "fashion_test.npz",
        "--html", page, "--json", record, "--no-latency",
    )  # fmt: skip
    assert done.code == 0
    assert done.err.strip().splitlines()[-1] == f"Report: {page}"
    found = json.loads(record.read_text())
    assert found["totals"]["after"]["macs"] <= 0.5 * found["totals"]["before"]["macs"]
    assert found["fidelity"]["top1_before"] > 0.9
    assert found["output"]["bytes"] == out.stat().st_size == found["totals"]["after"]["file_bytes"]
    assert "<html" in page.read_text()
    assert any("without seeing data" in warning for warning in found["warnings"])


def test_the_default_output_stands_beside_the_model(run: Run, resnet: Path) -> None:
    assert run("rewrite", resnet, "--rank", "2", "--no-latency", "--quiet").code == 0
    assert resnet.with_name("resnet.sep.onnx").exists()


def test_rewriting_twice_with_one_seed_gives_the_same_bytes(run: Run, resnet: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        run("rewrite", resnet, "-o", tmp_path / name, "--init", "random", "--seed", "3", "--no-latency", "--quiet")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_random_init_says_that_the_model_must_be_trained(run: Run, resnet: Path, tmp_path: Path) -> None:
    done = run("rewrite", resnet, "-o", tmp_path / "r.onnx", "--init", "random", "--no-latency")
    assert "must be trained" in done.err.replace("\n", " ")


def test_include_and_exclude_choose_sites(run: Run, resnet: Path, tmp_path: Path) -> None:
    names = [s["name"] for s in json.loads(run("analyze", resnet, "--json", "-").out)["sites"] if s["status"] != "kept"]
    done = run(
        "rewrite", resnet, "-o", tmp_path / "o.onnx", "--rank", "1", "--include", names[0], "--include", names[1],
        "--exclude", names[1], "--no-latency", "--json", "-", "--quiet",
    )  # fmt: skip
    sites = json.loads(done.out)["sites"]
    assert [site["name"] for site in sites if site["status"] == "rewritten"] == [names[0]]
    assert all(site["reason"] for site in sites if site["status"] == "kept")


def test_compare_of_a_model_with_itself_is_exact_and_passes_its_gate(
    run: Run, resnet: Path, sample_models_dir: Path
) -> None:
    done = run(
        "compare", resnet, resnet, "--data", sample_models_dir / "fashion_test.npz", "--no-latency",
        "--fail-above", "error=1e-9", "--json", "-", "--quiet",
    )  # fmt: skip
    fidelity = json.loads(done.out)["fidelity"]
    assert done.code == 0
    assert fidelity["outputs"][0]["relative_error"] == 0
    assert fidelity["top1_agreement"] == 1
    assert fidelity["top1_before"] == fidelity["top1_after"]


def test_a_gate_that_passes_says_by_what(run: Run, resnet: Path) -> None:
    gate = ("compare", resnet, resnet, "--no-latency", "--fail-above", "error=0.01,choices=0.1")
    assert "Gate passed: error 0 ≤ 0.01, changed choices 0 ≤ 0.1." in run(*gate).err
    assert run(*gate, "--quiet").err == ""


def test_compare_without_data_says_that_its_inputs_are_random(run: Run, resnet: Path) -> None:
    done = run("compare", resnet, resnet, "--no-latency")
    assert "random inputs" in done.err


def test_an_exceeded_gate_ends_with_three_and_the_reason(run: Run, resnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    run("rewrite", resnet, "-o", out, "--rank", "1", "--no-latency", "--quiet")
    done = run("compare", resnet, out, "--no-latency", "--fail-above", "error=0.0001", "--quiet")
    assert done.code == 3
    assert one_sentence(done)
    assert "above 0.0001" in done.err


def test_the_documented_step_for_ci_passes_a_good_model_and_stops_a_bad_one(
    run: Run, resnet: Path, tmp_path: Path, sample_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (sample_models_dir.parent / "reports" / "README.md").read_text(encoding="utf-8")
    step = re.search(r"^- run: sepconvert (compare .*)$", readme, re.MULTILINE)
    assert step is not None
    step_arguments = shlex.split(
        step.group(1).replace("latency=0.8", "latency=1000")
    )  # a shared machine proves no speed
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(resnet.read_bytes())
    shutil.copy(sample_models_dir / "fashion_test.npz", "test.npz")
    for rank, code in (("8", 0), ("1", 3)):
        run("rewrite", "model.onnx", "--form", "dw-pw", "--rank", rank, "--no-latency", "--quiet", "--force")
        done = run(*step_arguments, "--quiet", "--force")
        assert done.code == code, done.err
        assert Path("compare.html").exists()  # also where the gate stops: CI keeps the page as an artifact


def test_report_renders_a_saved_record(run: Run, resnet: Path, tmp_path: Path) -> None:
    run("analyze", resnet, "--json", tmp_path / "r.json", "--quiet")
    assert run("report", tmp_path / "r.json", "-o", tmp_path / "p.html").code == 0
    assert "resnet.onnx" in (tmp_path / "p.html").read_text()
    assert run("report", resnet, "-o", tmp_path / "q.html").code == 1


def test_version_names_the_runtimes(run: Run) -> None:
    done = run("--version")
    assert done.out.startswith("sepconvert ")
    assert "onnxruntime" in done.out


def test_doctor_describes_the_machine(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    assert "cpu" in done.out


@pytest.mark.parametrize(
    "options",
    [
        ["--rank", "2", "--macs", "0.5"],
        ["--rank", "0"],
        ["--rank", "1.5"],
        ["--macs", "1.5"],
        ["--params", "0"],
        ["--form", "tucker"],
        ["--lowering", "fused"],
        ["--init", "zeros"],
        ["--input", "image"],
        ["--input", "image:1x0x28x28"],
        ["--size", "big"],
        ["--mean", "a"],
        ["--layout", "hwc"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_two_and_writes_nothing(
    run: Run, resnet: Path, tmp_path: Path, options: list[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    done = run("rewrite", resnet, "--no-latency", *options)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert sorted(tmp_path.iterdir()) == before


def write_bad_model(kind: str, folder: Path, good: Path) -> Path:
    path = folder / f"{kind}.onnx"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("this is no model")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:-1000])
    else:
        model = onnx.load(str(good))
        weight = next(i for i in model.graph.initializer if len(i.dims) == 4 and i.dims[1] > 1 and i.dims[2] > 1)
        array = onnx.numpy_helper.to_array(weight).copy()
        if kind == "nan":
            array.flat[0] = np.nan
        elif kind == "infinite":
            array.flat[0] = np.inf
        elif kind == "shape":
            array = array[:, :-1]
        elif kind == "zero":
            array = array[:0]
        elif kind == "cyclic":
            first = model.graph.node[0]
            first.input[0] = model.graph.node[-1].output[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), weight.name))
        path.write_bytes(model.SerializeToString())
    return path


BAD = ["missing", "folder", "text", "empty", "truncated", "nan", "infinite", "shape", "zero", "cyclic"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_gets_one_sentence_and_nothing_is_written(
    run: Run, resnet: Path, tmp_path: Path, kind: str
) -> None:
    path = write_bad_model(kind, tmp_path, resnet)
    before = sorted(tmp_path.rglob("*"))
    done = run(
        "rewrite", path, "--rank", "1", "--no-latency", "--html", tmp_path / "p.html", "--json", tmp_path / "r.json"
    )
    assert done.code == 1
    assert one_sentence(done), done.err
    assert path.name in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_sites_writes_nothing(run: Run, tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [info("x", 1, [1, 3, 8, 8])], [info("y", 1, [1, 3, 8, 8])])
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    done = run("rewrite", path, "--no-latency")
    assert done.code == 1
    assert one_sentence(done)
    assert "no layer that can be rewritten (it has no layer with weights)" in done.err
    assert list(tmp_path.iterdir()) == [path]


def test_output_mistakes_are_told_before_any_work(run: Run, resnet: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.onnx"
    taken.write_text("precious")
    for output in (tmp_path / "no" / "such" / "o.onnx", resnet, taken, tmp_path):
        done = run("rewrite", resnet, "-o", output, "--rank", "2", "--no-latency")
        assert done.code == 1
        assert one_sentence(done)
    assert taken.read_text() == "precious"
    assert run("rewrite", resnet, "-o", taken, "--rank", "2", "--no-latency", "--force", "--quiet").code == 0
    assert taken.stat().st_size > 1000
    page = run("rewrite", resnet, "-o", tmp_path / "n.onnx", "--rank", "2", "--html", tmp_path / "no" / "p.html")
    assert page.code == 1
    assert not (tmp_path / "n.onnx").exists()


@pytest.mark.parametrize("device", ["nvidia", "tensorrt"])
def test_a_device_that_cannot_be_measured_is_told_before_any_work(
    run: Run, resnet: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "open_with_data", lambda *_: pytest.fail("work has begun"))
    done = run("rewrite", resnet, "--rank", "2", "--device", device)
    assert done.code == 1
    assert one_sentence(done)
    assert device in done.err


def test_what_is_no_record_is_told_in_one_sentence(run: Run, resnet: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    for source in (tmp_path / "missing.json", resnet, tmp_path / "list.json", tmp_path):
        done = run("report", source, "-o", tmp_path / "page.html")
        assert done.code == 1
        assert one_sentence(done), done.err
        assert "--json" in done.err


def test_a_shell_can_complete_the_names_of_forms_and_devices() -> None:
    group = typer.main.get_command(cli.app)
    rewrite = group.commands["rewrite"]
    completed = {
        option.name: [item.value for item in option.shell_complete(click.Context(rewrite), "")]
        for option in rewrite.params
        if option.name in ("form", "device", "lowering")
    }
    assert "pw-dw-pw" in completed["form"]
    assert {"cpu", "cuda"} <= set(completed["device"])
    assert "branches" in completed["lowering"]


def test_a_glob_that_matches_nothing_is_an_error(run: Run, resnet: Path) -> None:
    done = run("rewrite", resnet, "--include", "nothing*", "--no-latency")
    assert done.code == 1
    assert one_sentence(done)


def test_data_that_does_not_fit_is_named(run: Run, resnet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", wrong=np.zeros((4, 1, 28, 28), np.float32))
    done = run("rewrite", resnet, "--data", tmp_path / "d.npz", "--no-latency")
    assert done.code == 1
    assert one_sentence(done)
    assert "wrong" in done.err


def test_shared_test_and_calibration_inputs_are_told(
    run: Run, resnet: Path, tmp_path: Path, sample_models_dir: Path
) -> None:
    test = sample_models_dir / "fashion_test.npz"
    done = run(
        "rewrite", resnet, "--rank", "3", "--data", test, "--test-data", test, "--no-latency", "--json", "-", "--quiet"
    )
    assert any("calibration inputs too" in warning for warning in json.loads(done.out)["warnings"])
