"""Training with the rounding of INT8: what it brings is told, what is trained is written, else the start is kept."""

from pathlib import Path

import numpy as np
import pytest

import sepconvert
from sepconvert.graph.save import model_bytes
from sepconvert.record import BOTH, Record
from sepconvert.report.tuning import int8_tuning
from sepconvert.workflows import FineTune, Measure, Planning
from tests.fitting.nets import Net

UNTIMED = Measure(latency=False)
INT8 = Planning(cache=False, int8=True)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small network and inputs that a rewrite keeps."""
    folder = tmp_path_factory.mktemp("smooth")
    net, rng = Net(8), np.random.default_rng(0)
    value = net.relu(net.conv("first", "image", 8, 64))
    value = net.relu(net.conv("second", value, 64, 32))
    (folder / "model.onnx").write_bytes(model_bytes(net.build(value)))
    mixed = np.einsum("nkhw,kc->nchw", rng.normal(size=(100, 3, 12, 12)), rng.normal(size=(3, 8)))
    np.savez(folder / "data.npz", image=mixed.astype(np.float32))
    return folder / "model.onnx", folder / "data.npz"


def run(given: tuple[Path, Path], output: Path | None = None, **options: object) -> Record:
    model, data = given
    tuning = FineTune(**{"steps": 20, **options})  # type: ignore[arg-type]
    return sepconvert.rewrite(
        model, output, data=data, form="pw-dw-pw", rank=0.4, measure=UNTIMED, planning=INT8, fine_tune=tuning
    ).record


def test_training_with_rounding_lowers_the_error_that_the_record_and_the_page_tell(
    smooth: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.onnx"
    record = run(smooth, output)
    assert record.plan is not None
    assert record.fine_tune is not None
    assert [one.name for one in record.plan.alternatives if one.chosen] == [BOTH]
    found = record.fine_tune["int8"]
    assert found["steps"] == 20
    assert found["kept"] == "trained"
    assert found["error_after"] < found["error_before"]
    claim = int8_tuning(record)
    assert claim is not None
    assert "on held-out inputs" in claim.sentence
    assert record.integer_check is not None
    assert 0 < record.integer_check.sites <= 6  # each site became three layers, some in floating point
    again = sepconvert.compare(smooth[0], output, data=smooth[1], measure=UNTIMED)
    assert again.fidelity is not None
    assert again.fidelity.worst is not None
    (both,) = [one for one in record.plan.alternatives if one.chosen]
    assert again.fidelity.worst.decisive_error == pytest.approx(both.error)


@pytest.mark.slow
def test_where_training_does_not_help_the_start_is_kept_and_that_is_said(smooth: tuple[Path, Path]) -> None:
    kept = run(smooth, steps=3, lr=0.9)
    assert kept.fine_tune is not None
    assert kept.fine_tune["int8"]["kept"] == "start"
    claim = int8_tuning(kept)
    assert claim is not None
    assert claim.sentence.endswith("the start was kept.")


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_the_end_of_the_one_in_floating_point(
    smooth: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = smooth
    stages = []

    def interrupt(what: str, done: int, total: int) -> None:
        if what.partition(":")[0] in ("Fine-tune", "Fine-tune, INT8") and done == 0:
            stages.append(what)
        if len(stages) == 2 and done == 2:
            raise KeyboardInterrupt

    def go(output: Path, tuning: FineTune, progress: object = False) -> Record:
        return sepconvert.rewrite(
            model, output, data=data, form="pw-dw-pw", rank=0.4, measure=UNTIMED, planning=INT8, fine_tune=tuning,
            progress=progress,  # type: ignore[arg-type]
        ).record  # fmt: skip

    with pytest.raises(KeyboardInterrupt, match="with --resume goes on"):
        go(tmp_path / "out.onnx", FineTune(steps=6), interrupt)
    resumed = go(tmp_path / "out.onnx", FineTune(steps=6, resume=True))
    whole = go(tmp_path / "whole.onnx", FineTune(steps=6))
    assert resumed.fine_tune is not None
    assert whole.fine_tune is not None
    # The training in floating point is the same; what its start is fitted to in INT8 comes from the file, and differs.
    assert resumed.fine_tune["divergence_after"] == whole.fine_tune["divergence_after"]
    assert resumed.fine_tune["int8"]["error_after"] < resumed.fine_tune["int8"]["error_before"]
    assert resumed.fine_tune["int8"]["error_after"] == pytest.approx(whole.fine_tune["int8"]["error_after"], rel=0.05)
