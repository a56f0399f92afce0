"""How many patch positions a fit needs, relative to the C·K terms of a patch; run by hand.

    python tests/benchmarks/positions.py sample_models/fashion_resnet.onnx sample_models/fashion_calibration.npz

Every site is fitted on its own, at a third of its MACs, to positions of four fifths of the inputs; the error is that on
the others, with the best ridge of a grid, relative to the error with the most positions. Per term 1 position ends
18–50 % above, 2 at 12–23 %, 4 at 6–10 %, 8 at 2–4 %, 16 within 1 % on open_nsfw (120 crops of 14 photographs, sites of
288, 576 and 1152 terms, ``dw_pw`` and ``pw_dw_pw``), and 21–82 %, 11–48 %, 4–21 %, 0–13 %, 0–4 % on the sample ResNet.
A quarter of the inputs costs 2–7 % at any number of positions. Hence 6 per term, more where they are cheap, and more
inputs before more positions.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset, Preprocess, load_data
from sepconvert.graph.load import load_model
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.graph.weights import read_constant
from sepconvert.runtime.sessions import open_session
from sepconvert.separable.fitted import fit
from sepconvert.separable.forms import named, rank_for_share, reconstruct
from sepconvert.separable.moments import MomentAccumulator, fitted_bias
from sepconvert.separable.patches import gather_outputs, gather_patches, sample_positions
from sepconvert.separable.problem import make_problem

RATIOS = (1, 2, 4, 8, 16, 32)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
SHARE = 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--form", default="dw_pw")
    options = parser.parse_args()
    print("terms  " + "".join(f"{ratio:>8d}×" for ratio in RATIOS) + "   site")
    for site, weight, activations, outputs in captured(options.model, options.data):
        errors = curve(site, weight, activations, outputs, options.form)
        known = [error for error in errors if error is not None]
        cells = "".join("        –" if error is None else f"{error / known[-1] - 1:8.1%} " for error in errors)
        print(f"{site.geometry.in_channels * site.geometry.taps:5d}  {cells}   {site.output}")


def curve(
    site: ConvSite,
    weight: NDArray[np.floating],
    activations: NDArray[np.floating],
    outputs: NDArray[np.floating],
    form: str,
) -> list[float | None]:
    """Held-out error by number of positions per term; None where the inputs do not have so many."""
    geometry = site.geometry
    border = len(activations) * 4 // 5
    rng = np.random.default_rng(0)
    places = sample_positions(len(activations) - border, outputs.shape[2:], 100, rng)
    unseen = gather_patches(activations[border:], geometry, places), gather_outputs(outputs[border:], places)
    rank = rank_for_share(form, geometry, SHARE)
    errors: list[float | None] = []
    for ratio in RATIOS:
        wanted = ratio * geometry.in_channels * geometry.taps
        if wanted > border * np.prod(outputs.shape[2:]):
            errors.append(None)
            continue
        inputs = rng.permutation(border)[:wanted]  # one position each where fewer are wanted than there are inputs
        accumulator = MomentAccumulator(geometry)
        places = sample_positions(len(inputs), outputs.shape[2:], round(wanted / len(inputs)), rng)
        accumulator.add(activations[inputs], outputs[inputs], places)
        moments = accumulator.moments()
        kernels = [
            reconstruct(fit(make_problem(moments, weight, geometry, ridge), form, rank).factors) for ridge in RIDGES
        ]
        errors.append(min(relative_error(*unseen, kernel, fitted_bias(moments, kernel)) for kernel in kernels))
    return errors


def relative_error(
    patches: NDArray[np.floating],
    outputs: NDArray[np.floating],
    kernel: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> float:
    """Error of a dense kernel (M, C, *k) and bias (M,) on patches (n, C, K) and outputs (n, M): Σ(y−ŷ)² / Σ(y−ȳ)²."""
    predicted = patches.reshape(len(patches), -1) @ kernel.reshape(len(kernel), -1).T.astype(patches.dtype)
    difference = outputs - (predicted + bias.astype(patches.dtype))
    centred = outputs - outputs.mean(axis=0, dtype=np.float64)
    return float(np.sum(difference**2, dtype=np.float64)) / float(np.sum(centred**2, dtype=np.float64))


def captured(
    path: Path, data: Path
) -> Iterator[tuple[ConvSite, NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]]:
    """Sites with their weight, inputs and outputs over all of the data, one at a time."""
    model = load_model(path)
    shapes = infer_shapes(model)
    dataset: Dataset = load_data(data, shapes.inputs, Preprocess())
    first = next(iter(dataset.batches(1)))
    for site in survey(model, shapes).allowing(named("auto"), [CONV]).sites:
        if site.keep_reason:
            continue
        part = extract(model, {name: ValueType.of(array) for name, array in first.items()}, [site.input, site.output])
        session = open_session(model_bytes(part))
        runs = [session.run(feeds) for feeds in dataset.batches()]
        yield (
            site,
            read_constant(model, site.weight).astype(np.float64),
            np.concatenate([run[site.input] for run in runs]),
            np.concatenate([run[site.output] for run in runs]),
        )


if __name__ == "__main__":
    main()
