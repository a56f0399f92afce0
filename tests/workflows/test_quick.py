"""``--quick`` gives a first answer that keeps the same budget with less work, and says that it is one."""

from pathlib import Path

import sepconvert
from sepconvert.workflows.effort import INPUTS


def test_a_first_answer_keeps_the_budget_and_says_what_it_is(resnet: Path, sample_models_dir: Path) -> None:
    calls = list[str]()
    result = sepconvert.rewrite(
        resnet,
        data=sample_models_dir / "fashion_calibration.npz",
        test_data=sample_models_dir / "fashion_test.npz",
        form="dw-pw",
        macs=0.5,
        planning=sepconvert.Planning(quick=True, cache=False, jobs=1),
        measure=sepconvert.Measure(latency=False),
        progress=lambda what, done, total: calls.append(what),
    )
    record = result.record
    assert record.totals.after is not None
    assert record.totals.after.macs is not None
    assert record.totals.before.macs is not None
    assert record.totals.after.macs <= 0.5 * record.totals.before.macs
    assert record.inputs_given == 1024
    assert record.inputs_needed is None  # more would not be looked at
    (said,) = [note for note in record.notes if "--quick" in str(note)]
    assert f"fitted to {INPUTS} calibration inputs, judged on 3200 others" in str(said)
    assert record.fidelity is not None
    assert record.fidelity.top1_after is not None
    assert record.fidelity.top1_after > 0.91  # 0.9316 before; the full fit has 0.930
