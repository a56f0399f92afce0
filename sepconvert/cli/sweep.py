"""``sepconvert sweep``."""

from pathlib import Path
from typing import Annotated

import typer

from sepconvert.cli import options
from sepconvert.cli.show import show_record, stdout_for, telling_interruptions
from sepconvert.cli.words import words_of


def sweep(
    ctx: typer.Context,
    model: options.Model,
    data: Annotated[str, options.option(None, "FILE|FOLDER|CALLABLE", "Calibration inputs, as for rewrite.")],
    form: options.Form = "auto",
    budgets: Annotated[
        str,
        typer.Option(help="Speed-ups of the whole model (latency, old/new), comma-separated.", metavar="NUMBERS"),
    ] = "1.5,2,3",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Rewrite for INT8 where that is faster here, and show what INT8 alone gives.",
            rich_help_panel=options.HOW,
        ),
    ] = False,
    quick: options.Quick = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    test_data: options.TestData = None,
    weights: options.Weights = None,
    weights_key: options.WeightsKey = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = None,
    size: options.Size = None,
    layout: options.Layout = None,
    colours: options.Colours = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    metric: options.Metric = None,
    jobs: options.Jobs = None,
    cluster: options.Cluster = None,
    latency_table: options.LatencyTable = None,
    no_cache: options.NoCache = False,
    output: Annotated[
        Path | None,
        options.option(
            options.OUTPUT,
            "FOLDER",
            "Write the models here, each when it is ready, one for each budget (<stem>.2x.sep.onnx); made if it is not "
            "there.",
            "-o",
            "--output",
            shown="none is written",
        ),
    ] = None,
    json_: options.Json = None,
    html: options.Html = None,
    export_table: Annotated[
        Path | None,
        options.option(
            options.OUTPUT, "FILE", "Write the times of sites to this file, for --latency-table on another machine."
        ),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    seed: options.Seed = 0,
    _config: options.Config = None,
    _from: options.From = None,
) -> None:
    """Rewrite MODEL under several speed-ups and show what each costs and loses, beside simpler methods.

    The simpler methods are the same budgets without data, and the form that the plans use most at one share of each
    site's MACs.

    Example: sepconvert sweep model.onnx --data calibration.npz --test-data test.npz --budgets 1.5,2,3 --html sweep.html
    """
    from sepconvert import workflows

    with telling_interruptions(), stdout_for(json_):
        record = workflows.sweep(
            model,
            data=data,
            test_data=test_data,
            form=form,
            budgets=options.read_numbers("--budgets", budgets),
            output=output,
            export_table=export_table,
            reading=options.reading(input_, weights, weights_key, mean, std, scale, size, layout, colours),
            measure=workflows.Measure(devices=tuple(device or ["cpu"]), threads=threads, metric=metric),
            planning=workflows.Planning(
                include=include or (),
                exclude=exclude or (),
                latency_table=latency_table,
                cache=not no_cache,
                jobs=jobs,
                cluster=cluster,
                int8=int8,
                quick=quick,
            ),
            outputs=workflows.Outputs(json=json_, html=html, force=force, arguments=words_of(ctx)),
            seed=seed,
            progress=not quiet,
        )
    show_record(record, json_, html, quiet)
