"""``rewrite --data`` end to end: fitted factors keep what plain factorisation loses, and stopping leaves nothing."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sepconvert
from sepconvert.record import Record
from sepconvert.workflows import Measure, Planning
from tests.workflows.interrupted import interrupted

pytestmark = pytest.mark.slow

QUICK = Measure(latency=False)


def run(model: Path, samples: Path, **options: object) -> Record:
    return sepconvert.rewrite(
        model, test_data=str(samples / "fashion_test.npz"), measure=QUICK, **options  # type: ignore[arg-type]
    ).record  # fmt: skip


def drop(record: Record) -> float:
    assert record.fidelity is not None
    assert record.fidelity.top1_before is not None
    assert record.fidelity.top1_after is not None
    return 100 * (record.fidelity.top1_before - record.fidelity.top1_after)


@pytest.mark.parametrize("name", ["fashion_resnet", "fashion_vgg"])
def test_factors_fitted_to_data_keep_the_accuracy_that_plain_ones_lose(sample_models_dir: Path, name: str) -> None:
    model, data = sample_models_dir / f"{name}.onnx", str(sample_models_dir / "fashion_calibration.npz")
    fitted = run(model, sample_models_dir, form="dw-pw", rank=2, data=data)
    plain = run(model, sample_models_dir, form="dw-pw", rank=2)
    rewritten = [site for site in fitted.sites if site.status == "rewritten"]
    assert sum(site.macs_after or 0 for site in rewritten) <= 0.33 * sum(site.macs or 0 for site in rewritten)
    assert len(rewritten) >= 5
    assert all(site.error_heldout is not None and site.error_calibration is not None for site in rewritten)
    assert fitted.seconds["fit"] > 0
    assert drop(fitted) <= 2
    assert drop(plain) >= drop(fitted) + 10


def test_the_same_seed_gives_the_same_fit(
    sample_models_dir: Path, resnet: Path, first_images: Callable[[int], str]
) -> None:
    few = first_images(128)
    records = [run(resnet, sample_models_dir, form="pw-dw", rank=2, data=few, seed=1) for _ in range(2)]
    assert records[0].sites == records[1].sites
    assert records[0].fidelity == records[1].fidelity


def test_four_inputs_are_warned_about_and_lose_no_more_than_none(
    sample_models_dir: Path, vgg: Path, first_images: Callable[[int], str]
) -> None:
    four, allowed = first_images(4), Planning(allow_loss=True)
    fitted = run(vgg, sample_models_dir, form="dw-pw", rank=2, data=four, planning=allowed)
    plain = run(vgg, sample_models_dir, form="dw-pw", rank=2)
    assert any("would do" in warning for warning in fitted.warnings)
    assert drop(fitted) <= drop(plain)


@pytest.mark.parametrize(
    ("how", "expected", "after"), [(signal.SIGINT, 130, 1.0), (signal.SIGTERM, 143, 4.0), (signal.SIGKILL, -9, 4.0)]
)
def test_a_signal_in_the_middle_of_a_rewrite_leaves_nothing_behind(
    sample_models_dir: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    how: signal.Signals,
    expected: int,
    after: float,
) -> None:
    helper = tmp_path_factory.mktemp("helper")
    started = helper / "started"
    (helper / "calibration.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n"
        "def inputs():\n"
        f"    yield {{'image': np.load({str(sample_models_dir / 'fashion_calibration.npz')!r})['image']}}\n"
        f"    Path({str(started)!r}).touch()\n"
    )
    command = [
        sys.executable, "-m", "sepconvert", "rewrite", sample_models_dir / "fashion_vgg.onnx",
        "-o", tmp_path / "out.onnx", "--data", "calibration:inputs", "--form", "any", "--speedup", "1.5", "--no-cache",
        "--html", tmp_path / "page.html", "--json", tmp_path / "record.json", "--jobs", 2,
    ]  # fmt: skip
    environment = {
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(helper),
    }
    code, err = interrupted(command, started, environment, after=after, how=how)
    assert code == expected, err
    assert "Traceback" not in err
    assert "%" not in err  # no progress bar where there is no terminal
    # onnxruntime keeps the number of its session in the temporary folder.
    assert [path.name for path in tmp_path.iterdir() if path.name != ".ses"] == []
