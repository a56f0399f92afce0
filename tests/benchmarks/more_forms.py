"""Is a plan with all forms ever worse than one without the two that also serve pointwise layers? Run by hand.

    python -m tests.benchmarks.more_forms --out reports/more_forms.json --networks fashion_vgg fashion_resnet --seeds 3
    python -m tests.benchmarks.more_forms --out reports/more_forms.json --networks open_nsfw common_det ocr --inputs 96

Each network is rewritten for one speed-up twice: with every form, and without ``conv-pw`` and ``pw-conv-pw``, which is
all that there once was. Then the original and both are timed in turns, in one measurement, so that *faster* is by how
much the one with all forms is faster than the other. Errors are of the worst output part, on inputs that nothing else
has seen, training-free. A quiet machine is needed. ``--seeds`` says how often; a seed chooses positions and inputs.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from sepconvert import Planning, rewrite
from sepconvert.runtime.environment import describe_environment
from sepconvert.runtime.timing import Length, time_in_turns
from sepconvert.separable.forms import FORMS
from tests.benchmarks.detector import detector_files
from tests.benchmarks.models import open_case
from tests.benchmarks.reach import Files, first_inputs, nsfw, ocr

NEW = ("conv_pw", "pw_conv_pw")


def sample(name: str) -> Callable[[], Files]:
    """Model, calibration and test inputs of a sample network."""

    def files() -> Files:
        case = open_case(name)
        return case.model, case.calibration, case.test

    return files


NETWORKS: Mapping[str, tuple[Callable[[], Files], float]] = {
    "fashion_vgg": (sample("fashion_vgg"), 2.0),
    "fashion_resnet": (sample("fashion_resnet"), 1.5),
    "open_nsfw": (nsfw, 1.4),
    "common_det": (detector_files, 1.4),
    "ocr": (ocr, 1.1),
}


@contextmanager
def offering(every: bool) -> Iterator[None]:
    """What ``--form any`` stands for meanwhile."""
    forms = tuple(FORMS) if every else tuple(form for form in FORMS if form not in NEW)
    with patch("sepconvert.workflows.request.named", lambda _: forms):
        yield


def compared(network: str, seed: int, count: int | None) -> dict[str, Any]:
    """Rewrite one network in both ways, and time both."""
    files, speedup = NETWORKS[network]
    model, calibration, test = files()
    found: dict[str, Any] = {"network": network, "asked": speedup, "seed": seed, "inputs": count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = first_inputs(calibration, count, folder)
        made = {True: folder / "every.onnx", False: folder / "without.onnx"}
        for every, output in made.items():
            with offering(every):
                result = rewrite(
                    model,
                    data=str(data),
                    test_data=str(test),
                    form="any",
                    speedup=speedup,
                    seed=seed,
                    planning=Planning(allow_loss=True),
                )
            result.save(output)
            plan = result.record.plan
            assert plan is not None
            assert plan.measured is not None
            forms = [site.form for site in result.record.sites if site.form is not None]
            found["every" if every else "without"] = {
                "error": plan.measured["max_error"],
                "forms": {form: forms.count(form) for form in sorted(set(forms))},
            }
        with np.load(data) as arrays:
            first = next(iter(arrays.files))
            feeds = {result.record.inputs[0].name: arrays[first][:1].astype(np.float32)}
        every_time, without_time = time_in_turns(
            [model, *made.values()], feeds, rng=np.random.default_rng(seed), length=Length(20.0)
        )
    for key, latency in (("every", every_time), ("without", without_time)):
        found[key] |= {"speedup": latency.speedup, "speedup_ci95": latency.speedup_ci95}
    assert every_time.speedup is not None
    assert without_time.speedup is not None
    return found | {
        "error_ratio": found["every"]["error"] / found["without"]["error"],
        "faster": every_time.speedup / without_time.speedup,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--inputs", type=int, help="calibration inputs to fit to; all if not given")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for network in options.networks:
        for seed in range(options.seeds):
            if any((row["network"], row["seed"]) == (network, seed) for row in rows):
                continue
            start, load = time.perf_counter(), os.getloadavg()[0]
            row = compared(network, seed, options.inputs)
            rows.append(row | {"seconds": round(time.perf_counter() - start), "load": round(load, 1)})
            environment = asdict(describe_environment(1, ("cpu",)))
            options.out.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
