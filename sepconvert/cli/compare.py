"""``sepconvert compare``."""

from typing import Annotated

import typer

from sepconvert.cli import options
from sepconvert.cli.show import show_record, stdout_for
from sepconvert.cli.words import words_of


def compare(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(help="The original model.", metavar="BEFORE", show_default=False)],
    after: Annotated[str, typer.Argument(help="The model to judge.", metavar="AFTER", show_default=False)],
    fail_above: Annotated[
        str | None,
        options.option(
            None,
            "error=E,latency=R,choices=C,metric=D",
            "A gate for CI: exit with 3 and the reason when the relative error of the worst output (or of a value that "
            "it joins) is above E, the latency (after/before) above R, the share of choices of a class that changed "
            "above C, or the fall of --metric above D; one of them or several.",
        ),
    ] = None,
    data: options.Data = None,
    weights: options.Weights = None,
    weights_key: options.WeightsKey = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = None,
    size: options.Size = None,
    layout: options.Layout = None,
    colours: options.Colours = None,
    labels: options.Labels = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    no_latency: options.NoLatency = False,
    metric: options.Metric = None,
    json_: options.Json = None,
    html: options.Html = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    seed: options.Seed = 0,
    _config: options.Config = None,
    _from: options.From = None,
) -> None:
    """Run BEFORE and AFTER on the same inputs: fidelity per output, top-1 where there are labels, interleaved latency.

    Example: sepconvert compare model.onnx model.sep.onnx --data test.npz --fail-above error=0.01,latency=1.0
    """
    from sepconvert import workflows
    from sepconvert.workflows.gate import check_gate, parse_gate

    gate = parse_gate(fail_above)
    with stdout_for(json_):
        record = workflows.compare(
            before,
            after,
            data=data,
            reading=options.reading(
                input_, weights, weights_key, mean, std, scale, size, layout, colours, labels=labels
            ),
            measure=workflows.Measure(
                latency=not no_latency, devices=tuple(device or ["cpu"]), threads=threads, metric=metric
            ),
            outputs=workflows.Outputs(json=json_, html=html, force=force, arguments=words_of(ctx)),
            seed=seed,
            progress=not quiet,
        )
    show_record(record, json_, html, quiet)
    passed = check_gate(record, gate)
    if passed is not None and not quiet:
        typer.echo(passed, err=True)
