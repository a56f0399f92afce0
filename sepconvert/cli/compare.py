"""``sepconvert compare``."""

import sys
from typing import Annotated

import typer

from sepconvert.cli import options
from sepconvert.cli.show import show_progress, show_record


def compare(
    before: Annotated[str, typer.Argument(help="The original model.", metavar="BEFORE", show_default=False)],
    after: Annotated[str, typer.Argument(help="The model to judge.", metavar="AFTER", show_default=False)],
    fail_above: Annotated[
        str | None,
        typer.Option(
            help="A gate for CI: exit with 3 and the reason when the relative error of the worst output is above E, or "
            "the latency (after/before) above R; one of them or both.",
            metavar="error=E,latency=R",
            show_default=False,
        ),
    ] = None,
    data: options.Data = None,
    weights: options.Weights = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = None,
    size: options.Size = None,
    layout: options.Layout = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    no_latency: options.NoLatency = False,
    json_: options.Json = None,
    html: options.Html = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    seed: options.Seed = 0,
) -> None:
    """Run BEFORE and AFTER on the same inputs: fidelity per output, top-1 where there are labels, interleaved latency.

    Example: sepconvert compare model.onnx model.sep.onnx --data test.npz --fail-above error=0.01,latency=1.0
    """
    from sepconvert import workflows
    from sepconvert.data import parse_preprocess

    gate = workflows.parse_gate(fail_above)
    with show_progress(quiet) as progress:
        record = workflows.compare(
            before,
            after,
            data=data,
            preprocess=parse_preprocess(mean, std, scale, size, layout),
            weights=weights,
            input_shapes=options.read_input_shapes(input_),
            measure=workflows.Measure(not no_latency, tuple(device or ["cpu"]), threads),
            outputs=workflows.Outputs(json_, html, force, tuple(sys.argv[1:])),
            seed=seed,
            progress=progress,
        )
    show_record(record, json_, html, quiet)
    workflows.check_gate(record, gate)
