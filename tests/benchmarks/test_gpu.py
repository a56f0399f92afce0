"""What is measured on a GPU runs on a CPU too, and is told whether it succeeds or not."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import gpu, gpu_stages

STAGES = ["providers", "layers", "plan", "planned_rewrite", "whole_model", "fine_tune"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_stage_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # put back afterwards
    path = tmp_path / "gpu.json"
    assert gpu.main(["--device", "torch:cpu", "--quick", "--json", str(path)]) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record["stages"]) == STAGES == list(record["seconds"])
    assert not [name for name, stage in record["stages"].items() if isinstance(stage, dict) and "failed" in stage]
    layers = record["stages"]["layers"]
    assert {row["device"] for row in layers} == {"torch:cpu", "cpu"}
    assert {row["dtype"] for row in layers} == {"float32", "float16"}
    assert {"dw-pw", "pw-dw", "pw-dw-pw", "spatial"} <= {row["form"] for row in layers}
    assert record["verdicts"]["the device ran the models"] is True
    assert record["memory"]["resident"] > 0


def test_a_stage_that_fails_or_comes_too_late_leaves_the_others_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    for name in STAGES:
        monkeypatch.setattr(gpu_stages, name, fail)
    written: list[dict[str, object]] = []
    record = gpu.measure("torch:cpu", gpu_stages.QUICK, 1.0, lambda found: written.append(dict(found)))
    assert len(written) == len(STAGES)
    assert all("no kernel image" in record["stages"][name]["failed"] for name in STAGES)
    assert gpu.measure("torch:cpu", gpu_stages.QUICK, -1.0, lambda _: None)["stages"]["fine_tune"]["left_out"]


def test_a_training_that_ends_worse_than_the_cpus_proves_nothing() -> None:
    rows = [{"divergence_after": 0.012}, {"divergence_after": 0.010}]
    assert gpu.verdicts({"fine_tune": rows})["bfloat16 ends as the CPU does"] is False
    assert gpu.verdicts({"fine_tune": rows[1:] * 2})["bfloat16 ends as the CPU does"] is True
    assert gpu.verdicts({})["bfloat16 ends as the CPU does"] is None
