"""The methods that are compared: the peers (data-free) and this project's forms, data-free and fitted to data."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from tests.benchmarks.decompose import PEERS
from tests.benchmarks.emit import rewritten, sites
from tests.benchmarks.models import Case


@dataclass(frozen=True)
class Method:
    """``convert(case, share, path)`` writes the converted model to ``path`` and returns the CPU seconds it took.

    ``form`` is spelled as on the command line, None for the peers; ``fitted`` says that calibration data is used.
    """

    name: str
    label: str
    form: str | None
    fitted: bool
    convert: Callable[[Case, float, Path], float]

    @property
    def ours(self) -> bool:
        return self.form is not None


def peer(name: str, label: str) -> Method:
    def convert(case: Case, share: float, path: Path) -> float:
        start = time.process_time()
        model = onnx.load(case.model)
        found = sites(model, {case.input: case.shape})
        options = {
            output: PEERS[name](weight, geometry, share * geometry.dense_cost.macs)
            for output, (weight, geometry) in found.items()
        }
        onnx.save(rewritten(model, {output: option for output, option in options.items() if option}), path)
        return time.process_time() - start

    return Method(name, label, None, False, convert)


def ours(form: str, fitted: bool) -> Method:
    def convert(case: Case, share: float, path: Path) -> float:
        return _rewrite(case, form, path, fitted, rank=share)

    kind = "fitted" if fitted else "data-free"
    return Method(f"ours_{form.replace('-', '_')}_{kind}", f"sepconvert {form}, {kind}", form, fitted, convert)


def planned(form: str) -> Method:
    """The planner splits the same MACs over the sites by itself."""

    def convert(case: Case, share: float, path: Path) -> float:
        from sepconvert.workflows import Reading, analyze

        record = analyze(case.model, reading=Reading(input_shapes={case.input: case.shape}))
        macs = record.totals.before.macs
        sites_macs = sum(site.macs or 0 for site in record.sites if site.status == "eligible")
        assert macs is not None
        return _rewrite(case, form, path, True, macs=1 - (1 - share) * sites_macs / macs)

    return Method(
        f"ours_{form.replace('-', '_')}_planned", f"sepconvert {form}, fitted, planned split", form, True, convert
    )


def _rewrite(case: Case, form: str, path: Path, fitted: bool, **budget: float) -> float:
    from sepconvert.workflows import Measure, Planning, Reading, rewrite

    start = time.process_time()
    rewrite(
        case.model,
        path,
        form=form,
        data=str(case.calibration) if fitted else None,
        reading=Reading(input_shapes={case.input: case.shape}),
        measure=Measure(latency=False),
        planning=Planning(cache=False),
        **budget,
    )
    return time.process_time() - start


FORMS = ("dw-pw", "pw-dw", "pw-dw-pw", "spatial")
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        peer("nd_dw_pw", "Network Decoupling, DW→PW"),
        peer("nd_pw_dw", "Network Decoupling, PW→DW"),
        peer("gdws", "GDWS"),
        peer("spatial_svd", "spatial SVD"),
        peer("tucker2", "Tucker-2 (TensorLy)"),
        *(ours(form, fitted=False) for form in FORMS),
        *(ours(form, fitted=True) for form in (*FORMS, "auto", "any")),
        *(planned(form) for form in (*FORMS, "auto", "any")),
    )
}
