"""The command line: parse, call one workflow, print, turn errors into exit codes. No logic and no numbers."""

import gc
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sepconvert import __version__
from sepconvert.cli_options import (
    Data,
    Device,
    Exclude,
    Force,
    Form,
    Html,
    Include,
    Input,
    Jobs,
    Json,
    LatencyTable,
    Layout,
    Mean,
    Model,
    NoCache,
    NoLatency,
    Quiet,
    Scale,
    Seed,
    Size,
    Std,
    TestData,
    Threads,
    read_input_shapes,
    read_numbers,
)
from sepconvert.errors import SepconvertError

if TYPE_CHECKING:
    from sepconvert.record import Record

app = typer.Typer(
    name="sepconvert",
    help="Make a trained convolutional network smaller and measurably faster: standard convolutions become "
    "depthwise + pointwise pairs, and the report says exactly what was gained and lost.\n\n"
    "One MAC is one multiply-add; FLOPs are 2·MACs; figures are per sample.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print versions and exit.")] = False,
) -> None:
    """Print the version when asked."""
    if version:
        from sepconvert.terminal import version_line

        typer.echo(version_line(__version__))
        raise typer.Exit


@app.command()
def analyze(
    model: Model,
    data: Data = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure the model, each site alone, and candidates.")
    ] = False,
    input_: Input = None,
    include: Include = None,
    exclude: Exclude = None,
    device: Device = None,
    threads: Threads = 1,
    no_cache: NoCache = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: Size = None,
    layout: Layout = None,
    json_: Json = None,
    html: Html = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """List the convolutions of MODEL: which can be made separable, which cannot and why, and what everything costs.

    Example: sepconvert analyze model.onnx --input image:1x3x224x224
    """
    from sepconvert import workflows
    from sepconvert.data import parse_preprocess

    record = workflows.analyze(
        model,
        data=data,
        preprocess=parse_preprocess(mean, std, scale, size, layout),
        input_shapes=read_input_shapes(input_),
        include=include or (),
        exclude=exclude or (),
        measure=workflows.Measure(latency, tuple(device or ["cpu"]), threads),
        planning=workflows.Planning(cache=not no_cache),
        outputs=workflows.Outputs(json_, html, force, tuple(sys.argv[1:])),
        seed=seed,
    )
    _show(record, json_, html, quiet)


@app.command()
def rewrite(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write.", show_default="<stem>.sep.onnx beside MODEL")
    ] = None,
    data: Data = None,
    test_data: TestData = None,
    init: Annotated[
        str, typer.Option(help="low-rank: approximate the weights; random: reinitialise the pairs for training.")
    ] = "low-rank",
    form: Form = "auto",
    rank: Annotated[
        float | None,
        typer.Option(
            help="An integer >= 1: the rank (with auto or any: whatever fits the MACs of dw-pw at that rank). "
            "A number in (0, 1): the share of each site's own MACs.",
            show_default=False,
        ),
    ] = None,
    speedup: Annotated[
        float | None,
        typer.Option(help="Latency of the whole model, old/new, on the (first) device.", show_default=False),
    ] = None,
    macs: Annotated[
        float | None,
        typer.Option(help="MACs of the whole model, new/old.", show_default="0.5 if no other budget is given"),
    ] = None,
    params: Annotated[
        float | None, typer.Option(help="Parameters of the whole model, new/old.", show_default=False)
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Largest relative error of the worst output on held-out --data inputs.", show_default=False),
    ] = None,
    lowering: Annotated[str, typer.Option(help="How factors become nodes: auto, stacked, branches, concat.")] = "auto",
    input_: Input = None,
    include: Include = None,
    exclude: Exclude = None,
    device: Device = None,
    threads: Threads = 1,
    no_latency: NoLatency = False,
    jobs: Jobs = 1,
    latency_table: LatencyTable = None,
    no_cache: NoCache = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: Size = None,
    layout: Layout = None,
    json_: Json = None,
    html: Html = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a copy of MODEL whose standard convolutions are separable, and report what was gained and lost.

    With --data the factors are fitted to what each layer really sees; without, they approximate the weights alone,
    which usually costs accuracy.

    Example: sepconvert rewrite model.onnx --data calibration.npz --test-data test.npz --macs 0.4 --html report.html
    """
    from sepconvert import workflows
    from sepconvert.data import parse_preprocess

    with _progress(quiet) as progress:
        result = workflows.rewrite(
            model,
            output or model.with_name(f"{model.stem}.sep.onnx"),
            data=data,
            test_data=test_data,
            preprocess=parse_preprocess(mean, std, scale, size, layout),
            init=init,
            form=form,
            rank=rank,
            speedup=speedup,
            macs=macs,
            params=params,
            max_error=max_error,
            lowering=lowering,
            input_shapes=read_input_shapes(input_),
            include=include or (),
            exclude=exclude or (),
            measure=workflows.Measure(not no_latency, tuple(device or ["cpu"]), threads),
            planning=workflows.Planning(latency_table, not no_cache, jobs),
            outputs=workflows.Outputs(json_, html, force, tuple(sys.argv[1:])),
            seed=seed,
            progress=progress,
        )
    _show(result.record, json_, html, quiet)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="The original model.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="The model to judge.", show_default=False)],
    data: Data = None,
    fail_above: Annotated[
        str | None,
        typer.Option(
            help="Exit with 3 when a limit is exceeded: error=E (relative error of the worst output), latency=R "
            "(after/before), comma-separated.",
            show_default=False,
        ),
    ] = None,
    input_: Input = None,
    device: Device = None,
    threads: Threads = 1,
    no_latency: NoLatency = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: Size = None,
    layout: Layout = None,
    json_: Json = None,
    html: Html = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Run BEFORE and AFTER on the same inputs: fidelity per output, top-1 where there are labels, interleaved latency.

    Example: sepconvert compare model.onnx model.sep.onnx --data test.npz --fail-above error=0.01,latency=1.0
    """
    from sepconvert import workflows
    from sepconvert.data import parse_preprocess

    gate = workflows.parse_gate(fail_above)
    record = workflows.compare(
        before,
        after,
        data=data,
        preprocess=parse_preprocess(mean, std, scale, size, layout),
        input_shapes=read_input_shapes(input_),
        measure=workflows.Measure(not no_latency, tuple(device or ["cpu"]), threads),
        outputs=workflows.Outputs(json_, html, force, tuple(sys.argv[1:])),
        seed=seed,
    )
    _show(record, json_, html, quiet)
    workflows.check_gate(record, gate)


@app.command()
def sweep(
    model: Model,
    data: Annotated[str, typer.Option(help="Calibration inputs, as for rewrite.", show_default=False)],
    test_data: TestData = None,
    form: Form = "auto",
    budgets: Annotated[str, typer.Option(help="Speed-ups to try, comma-separated.")] = "1.5,2,3",
    export_table: Annotated[
        Path | None,
        typer.Option(
            help="Write the times of sites to this file, for --latency-table on another machine.", show_default=False
        ),
    ] = None,
    input_: Input = None,
    include: Include = None,
    exclude: Exclude = None,
    device: Device = None,
    threads: Threads = 1,
    jobs: Jobs = 1,
    latency_table: LatencyTable = None,
    no_cache: NoCache = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: Size = None,
    layout: Layout = None,
    json_: Json = None,
    html: Html = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Rewrite MODEL under several speed-ups and show what each costs and loses, beside simpler methods.

    The simpler methods are the same budgets without data, and every form at one share of each site's MACs.

    Example: sepconvert sweep model.onnx --data calibration.npz --test-data test.npz --budgets 1.5,2,3 --html sweep.html
    """
    from sepconvert import workflows
    from sepconvert.data import parse_preprocess

    with _progress(quiet) as progress:
        record = workflows.sweep(
            model,
            data=data,
            test_data=test_data,
            form=form,
            budgets=read_numbers("--budgets", budgets),
            export_table=export_table,
            preprocess=parse_preprocess(mean, std, scale, size, layout),
            input_shapes=read_input_shapes(input_),
            include=include or (),
            exclude=exclude or (),
            measure=workflows.Measure(True, tuple(device or ["cpu"]), threads),
            planning=workflows.Planning(latency_table, not no_cache, jobs),
            outputs=workflows.Outputs(json_, html, force, tuple(sys.argv[1:])),
            seed=seed,
            progress=progress,
        )
    _show(record, json_, html, quiet)


@app.command()
def report(
    record: Annotated[Path, typer.Argument(help="A record written by --json.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.", show_default=False)],
    force: Force = False,
) -> None:
    """Render a record as one self-contained HTML page.

    Example: sepconvert report record.json -o page.html
    """
    from sepconvert import workflows

    workflows.render(record, output, force=force)
    typer.echo(str(output), err=True)


@app.command()
def doctor() -> None:
    """Say what this machine offers: runtimes, devices, threads, timer noise, and what is missing.

    Example: sepconvert doctor
    """
    from sepconvert import workflows
    from sepconvert.terminal import print_doctor

    print_doctor(workflows.doctor())


def main() -> None:
    """Run the command line; a ``SepconvertError`` becomes one line on stderr and its exit code."""
    # Imports and graphs make very many objects and hardly any garbage: looking for it was a tenth of a survey's time.
    gc.set_threshold(100_000, 50, 50)
    try:
        app()
    except SepconvertError as error:
        typer.echo(f"sepconvert: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # a second one, or one that Typer was not there to see
        sys.exit(130)


def _show(record: "Record", json_: str | None, html: Path | None, quiet: bool) -> None:
    if json_ == "-":
        typer.echo(record.to_json(), nl=False)
    if not quiet:
        from sepconvert.terminal import print_record

        print_record(record, html)


def _progress(quiet: bool) -> AbstractContextManager[Callable[[str, int, int], None] | None]:
    """A progress bar where somebody watches, else nothing."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from sepconvert.terminal import progress_bar

    return progress_bar()
