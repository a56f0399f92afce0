"""``sepconvert analyze``."""

from typing import Annotated

import typer

from sepconvert.cli import options
from sepconvert.cli.show import show_record, stdout_for
from sepconvert.cli.words import words_of


def analyze(
    ctx: typer.Context,
    model: options.Model,
    form: options.Form = "auto",
    include: options.Include = None,
    exclude: options.Exclude = None,
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
    latency: Annotated[
        bool,
        typer.Option(
            "--latency",
            help="Measure the model, each site alone, and what could stand in its place.",
            rich_help_panel=options.MEASURING,
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="With --latency: measure the model in INT8, too, and its sites so where that is faster. Needs --data.",
            rich_help_panel=options.MEASURING,
        ),
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Show every layer in a row of its own, however many there are."),
    ] = False,
    device: options.Device = None,
    threads: options.Threads = 1,
    no_cache: options.NoCache = False,
    json_: options.Json = None,
    html: options.Html = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    seed: options.Seed = 0,
    _config: options.Config = None,
    _from: options.From = None,
) -> None:
    """List the layers of MODEL: what each costs, which could be made separable, which are so already, and why not.

    Example: sepconvert analyze model.onnx --input image:1x3x224x224
    """
    from sepconvert import workflows

    with stdout_for(json_):
        record = workflows.analyze(
            model,
            data=data,
            form=form,
            reading=options.reading(input_, weights, weights_key, mean, std, scale, size, layout, colours),
            measure=workflows.Measure(latency=latency, devices=tuple(device or ["cpu"]), threads=threads),
            planning=workflows.Planning(include=include or (), exclude=exclude or (), cache=not no_cache, int8=int8),
            outputs=workflows.Outputs(json=json_, html=html, force=force, arguments=words_of(ctx)),
            seed=seed,
            progress=not quiet,
        )
    show_record(record, json_, html, quiet, every=every)
