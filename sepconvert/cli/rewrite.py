"""``sepconvert rewrite``."""

from pathlib import Path
from typing import Annotated

import typer

from sepconvert.cli import options
from sepconvert.cli.show import show_record, stdout_for, telling_interruptions
from sepconvert.cli.words import words_of
from sepconvert.errors import UsageError

BUDGET = "Other budgets (one in all)"
TUNING = "Fine-tuning"


def rewrite(
    ctx: typer.Context,
    model: options.Model,
    data: options.Data = None,
    speedup: Annotated[
        float | None,
        options.option(None, "X", "A budget: latency of the whole model, old/new, e.g. 2 for half the time."),
    ] = None,
    html: options.Html = None,
    init: Annotated[
        str,
        typer.Option(
            help="low-rank: approximate the weights; random: draw new weights, for training.",
            metavar="low-rank|random",
            rich_help_panel=options.HOW,
            autocompletion=lambda: ["low-rank", "random"],
        ),
    ] = "low-rank",
    form: options.Form = "auto",
    lowering: Annotated[
        str,
        typer.Option(
            help="How factors become nodes: stacked (one grouped Conv), branches (one pair per rank) or concat (one "
            "depthwise Conv per rank); auto = whichever is timed to be the fastest.",
            metavar="NAME",
            rich_help_panel=options.HOW,
            autocompletion=lambda: ["auto", "stacked", "branches", "concat"],
        ),
    ] = "auto",
    rank: Annotated[
        float | None,
        options.option(
            BUDGET,
            "N",
            "A whole number: the rank (with auto or any: whatever fits the MACs of dw-pw at that rank). "
            "A number in (0, 1): the share of each site's own MACs, rounded down (R from 8 on to a multiple of 4: "
            "much faster).",
        ),
    ] = None,
    macs: Annotated[
        float | None,
        options.option(BUDGET, "RATIO", "MACs of the whole model, new/old.", shown="0.5 without --data"),
    ] = None,
    params: Annotated[float | None, options.option(BUDGET, "RATIO", "Parameters of the whole model, new/old.")] = None,
    max_error: Annotated[
        float | None,
        options.option(
            BUDGET,
            "E",
            "As fast as possible (with --no-latency: with as few MACs) within this relative error of the worst output "
            "(or of a value that it joins) on held-out --data inputs: 0 is identical, 1 no better than a constant "
            "answer.",
            shown="0.01 with --data",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        options.option(
            BUDGET,
            "D",
            "How far the --metric may fall below the original's; beyond it nothing is written. Without another budget: "
            "as fast as that allows, on held-out --data inputs.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Compute in INT8 too, where that serves the budget best: the original in INT8, the rewritten model, "
            "or both; all of them are measured and told. Needs --data.",
            rich_help_panel=options.HOW,
        ),
    ] = False,
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss",
            help="Write the model even where it is beyond use (a relative error of 0.9 or more), or beyond --max-drop.",
            rich_help_panel=BUDGET,
        ),
    ] = False,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold",
            help="Also fold sums P·z + z into the pointwise convolution P, exactly; done even where nothing else is to "
            "do (--exclude '*' folds alone).",
            rich_help_panel=options.HOW,
        ),
    ] = False,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune",
            help="Then train the new layers to say what MODEL says; needs --data or --train-data, no labels. With "
            "--int8 the rewritten model in INT8 is then trained on as it computes, as long again.",
            rich_help_panel=TUNING,
        ),
    ] = False,
    train_data: Annotated[
        str | None,
        options.option(
            TUNING,
            "FILE|FOLDER|CALLABLE",
            "Inputs to train on, spelled as --data; labels are mixed in where there are some.",
            shown="--data",
        ),
    ] = None,
    steps: Annotated[int | None, options.option(TUNING, "N", "Optimiser steps.")] = None,
    epochs: Annotated[
        int | None,
        options.option(TUNING, "N", "Passes over the training inputs.", shown="20, but at least 500 steps"),
    ] = None,
    lr: Annotated[
        float | None,
        options.option(TUNING, "X", "Peak learning rate.", shown="at most 0.002; less after a good start in few steps"),
    ] = None,
    train_weights: Annotated[
        str,
        typer.Option(
            help="new: the new layers, all biases and scales of normalisations; all: the layers that stayed dense too.",
            metavar="new|all",
            rich_help_panel=TUNING,
            autocompletion=lambda: ["new", "all"],
        ),
    ] = "new",
    augment: Annotated[
        str | None,
        options.option(
            TUNING,
            "shift,flip",
            "Train on variants of the images too, and let MODEL say what they are: shift (moved by up to 7 % of a "
            "side), flip (mirrored left to right), or both, comma-separated. Helps where images are few, steps many.",
            shown="none",
            autocompletion=lambda: ["shift", "flip", "shift,flip"],
        ),
    ] = None,
    hard_labels: Annotated[
        bool,
        typer.Option(
            "--hard-labels",
            help="Take MODEL's own answers for labels: for classifiers, where right answers matter more than the same.",
            rich_help_panel=TUNING,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted training, from the file that it left beside the output.",
            rich_help_panel=TUNING,
        ),
    ] = False,
    num_devices: Annotated[
        int, typer.Option(help="Processes that train, with a GPU each on cuda.", metavar="N", rich_help_panel=TUNING)
    ] = 1,
    num_nodes: Annotated[
        int,
        typer.Option(
            help="Machines that train, each started with this command and MASTER_ADDR, MASTER_PORT, NODE_RANK.",
            metavar="N",
            rich_help_panel=TUNING,
        ),
    ] = 1,
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
    labels: options.Labels = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    no_latency: options.NoLatency = False,
    metric: options.Metric = None,
    jobs: options.Jobs = None,
    cluster: options.Cluster = None,
    latency_table: options.LatencyTable = None,
    no_cache: options.NoCache = False,
    output: Annotated[
        Path | None,
        options.option(
            options.OUTPUT, "FILE", "The model to write.", "-o", "--output", shown="<stem>.sep.onnx beside MODEL"
        ),
    ] = None,
    json_: options.Json = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    seed: options.Seed = 0,
    _config: options.Config = None,
    _from: options.From = None,
) -> None:
    """Write a copy of MODEL whose standard convolutions are separable, and report what was gained and lost.

    With --data the factors are fitted to what each layer really sees; without, they approximate the weights alone,
    which usually costs accuracy.

    Without a budget the copy is as fast as an error of 1 % allows (--max-error 0.01). Without --data, or with
    --no-latency, it has half of the MACs (--macs 0.5).

    Example: sepconvert rewrite model.onnx --data calibration.npz --test-data test.npz --macs 0.4 --html report.html
    """
    from sepconvert import workflows
    from sepconvert.workflows.sources import default_output

    tuning = workflows.FineTune(
        train_data=train_data,
        steps=steps,
        epochs=epochs,
        lr=lr,
        resume=resume,
        num_devices=num_devices,
        num_nodes=num_nodes,
        train_weights=train_weights,
        augment=tuple(augment.split(",")) if augment else (),
        hard_labels=hard_labels,
    )
    if not fine_tune and tuning != workflows.FineTune():
        raise UsageError("Options of the fine-tuning were given without --fine-tune; pass it too.")
    with telling_interruptions(), stdout_for(json_):
        result = workflows.rewrite(
            model,
            output or default_output(model),
            data=data,
            test_data=test_data,
            form=form,
            rank=rank,
            speedup=speedup,
            macs=macs,
            params=params,
            max_error=max_error,
            fine_tune=tuning if fine_tune else False,
            reading=options.reading(
                input_, weights, weights_key, mean, std, scale, size, layout, colours, labels=labels
            ),
            measure=workflows.Measure(
                latency=not no_latency, devices=tuple(device or ["cpu"]), threads=threads, metric=metric
            ),
            planning=workflows.Planning(
                include=include or (),
                exclude=exclude or (),
                lowering=lowering,
                init=init,
                latency_table=latency_table,
                cache=not no_cache,
                jobs=jobs,
                cluster=cluster,
                fold=fold,
                allow_loss=allow_loss,
                max_drop=max_drop,
                int8=int8,
                quick=quick,
            ),
            outputs=workflows.Outputs(json=json_, html=html, force=force, arguments=words_of(ctx)),
            seed=seed,
            progress=not quiet,
        )
    show_record(result.record, json_, html, quiet)
