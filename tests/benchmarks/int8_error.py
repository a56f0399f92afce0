"""The error of INT8, naive against noise-aware, of one and the same rewritten network. Run by hand.

    python -m tests.benchmarks.int8_error fashion_vgg fashion_resnet --share 0.5 --out reports/int8_error.json

Every site becomes one form at the same share of its multiply-adds and is fitted in float32. That network is quantised
as it is, with the widest ranges of 32 inputs as most people do it (naive), and with the ranges that err least; then it
is fitted again for integers (noise-aware). INT8 alone is the original, quantised. Errors are relative to the variance
of the output before its final activation, on test inputs, with the integers of this machine: weights have 7 bits where
sums of products would saturate. Only errors are looked at, so the machine may be busy.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.load import load_data
from sepconvert.fitting.int8_refit import refit_quantised
from sepconvert.fitting.ranges import METHODS, find_ranges
from sepconvert.fitting.refit import RefitSettings, refit
from sepconvert.fitting.results import NetworkFit
from sepconvert.fitting.sampling import Sampling
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.parts import with_kernels
from sepconvert.graph.rewrite import rewrite_model
from sepconvert.graph.save import runnable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.planning.uniform import plan_rank
from sepconvert.runtime.environment import cpu_name
from sepconvert.runtime.quantise import quantisable_nodes, quantised, types_here
from sepconvert.runtime.sessions import open_session
from sepconvert.runtime.simplify import simplified
from sepconvert.separable.forms import FORMS, named
from sepconvert.separable.threads import one_blas_thread
from tests.benchmarks.models import open_case

FEW, SEEN = 32, 256  # inputs of naive ranges and of chosen ones
BATCH = 4


@dataclass(frozen=True)
class Network:
    """A network with its inputs; ``output`` is what is compared."""

    model: LoadedModel
    calibration: Dataset
    test: Dataset
    output: str


def open_network(name: str, options: argparse.Namespace) -> Network:
    case = open_case(name)
    model = load_model(case.model)
    infos = infer_shapes(model, {}).inputs
    rng = np.random.default_rng(options.seed)
    calibration, test = (load_data(str(path), infos) for path in (case.calibration, case.test))
    calibration = calibration.sample(min(options.inputs, calibration.count), rng)
    return Network(model, calibration, test.first(min(options.tests, test.count)), case.logits)


def float_fit(network: Network, options: argparse.Namespace, settings: RefitSettings) -> NetworkFit:
    shapes = infer_shapes(network.model, network.calibration.shapes())
    sites = survey(network.model, shapes).allowing(tuple(FORMS), [CONV]).sites
    plans = [plan_rank(site, named(options.form), options.share) for site in sites if site.geometry.in_channels > 3]
    return refit(network.model, plans, network.calibration, rng=np.random.default_rng(options.seed), settings=settings)


def written(model: LoadedModel, fit: NetworkFit) -> LoadedModel:
    made = rewrite_model(model, fit.replacements).model
    return with_kernels(made, [*fit.dense.values()]) if fit.dense else made


def in_integers(model: LoadedModel, seen: Dataset) -> dict[str, bytes]:
    """The model in INT8, by how ranges are found."""
    plain = simplified(runnable(model))
    nodes = quantisable_nodes(plain)
    values = list(dict.fromkeys(value for node in nodes for value in node.values))
    names = [node.name for node in nodes]
    found = find_ranges(plain, values, seen)
    return {method: quantised(plain, ranges, names, types_here()) for method, ranges in found.items()}


def outputs(network: Network, model: bytes, dataset: Dataset) -> NDArray[np.float64]:
    """What is compared, over all inputs of a data set."""
    from sepconvert.graph.load import load_bytes
    from sepconvert.graph.parts import ValueType, extract

    loaded = load_bytes(bytes(model))
    first = next(dataset.batches(1))
    types = {name: ValueType(array.dtype, (None, *array.shape[1:])) for name, array in first.items()}
    session = open_session(runnable(extract(loaded, types, [network.output])))
    return np.concatenate(
        [session.run(feeds, [network.output])[network.output] for feeds in dataset.batches(BATCH)]
    ).astype(np.float64)


def relative(truth: NDArray[np.float64], guess: NDArray[np.float64]) -> float:
    return float(np.sum((truth - guess) ** 2) / np.sum((truth - truth.mean(axis=0)) ** 2))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    network = open_network(name, options)
    settings = RefitSettings(sampling=Sampling(per_term=options.per_term))
    heldout = network.calibration.split(0.2, np.random.default_rng(options.seed))[1]
    original = runnable(network.model)
    truth = {kind: outputs(network, original, data) for kind, data in (("test", network.test), ("held-out", heldout))}
    found: dict[str, Any] = {"network": name, "form": options.form, "share": options.share}

    def error(model: bytes, kind: str = "test") -> float:
        return relative(truth[kind], outputs(network, model, network.test if kind == "test" else heldout))

    def note(key: str, value: object) -> None:
        found[key] = value
        print(name, key, value, flush=True)

    def quantised_as(key: str, model: LoadedModel) -> None:
        """Note the test error with the ranges that err least on held-out inputs."""
        made = in_integers(model, network.calibration.sample(SEEN, np.random.default_rng(options.seed)))
        method = min(made, key=lambda one: error(made[one], "held-out"))
        note(key, error(made[method]))
        note(f"{key}, ranges", method)

    few = network.calibration.sample(FEW, np.random.default_rng(options.seed))
    widest = next(iter(METHODS))
    note("INT8 alone, naive", error(in_integers(network.model, few)[widest]))
    quantised_as("INT8 alone, chosen ranges", network.model)
    start = perf_counter()
    fit = float_fit(network, options, settings)
    note("seconds of the fit", perf_counter() - start)
    rewritten = written(network.model, fit)
    note("rewritten, float32", error(runnable(rewritten)))
    note("both, naive", error(in_integers(rewritten, few)[widest]))
    quantised_as("both, chosen ranges", rewritten)
    refitted = partial(refit_quantised, network.model, dataset=network.calibration, types=types_here())
    for key, begun in (("INT8 alone, refitted", NetworkFit({})), ("both, noise-aware", fit)):
        start = perf_counter()
        aware = refitted(begun, rng=np.random.default_rng(options.seed), settings=settings)
        note(f"{key}, seconds", perf_counter() - start)
        if aware.warnings:
            note(f"{key}, warnings", list(aware.warnings))
        note(f"{key}, its float32", error(runnable(written(network.model, aware))))
        quantised_as(key, written(network.model, aware))
    note("times lower than naive", found["both, naive"] / found["both, noise-aware"])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--form", default="pw-dw-pw")
    parser.add_argument("--share", type=float, default=0.5, help="of every site's multiply-adds")
    parser.add_argument("--inputs", type=int, default=1024, help="to calibrate with")
    parser.add_argument("--tests", type=int, default=10_000, help="inputs to judge by")
    parser.add_argument("--per-term", type=float, default=6.0, help="positions for each term of a patch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    known = json.loads(options.out.read_text())["networks"] if options.out and options.out.exists() else []
    for name in options.networks:
        with one_blas_thread():
            found = measure(name, options) | {"inputs": options.inputs, "seed": options.seed}
        known = [one for one in known if one["network"] != name] + [found]
        if options.out:
            made = {
                "cpu": cpu_name(),
                "onnxruntime": version("onnxruntime"),
                "weight bits": 7 if types_here().reduced else 8,
                "networks": known,
            }
            options.out.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
