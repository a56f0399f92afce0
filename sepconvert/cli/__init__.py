"""The command line: one module per command, each parses, calls one workflow and prints. No logic and no numbers."""

import gc
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from sepconvert import __version__
from sepconvert.cli.analyze import analyze
from sepconvert.cli.compare import compare
from sepconvert.cli.doctor import doctor
from sepconvert.cli.report import report
from sepconvert.cli.rewrite import rewrite
from sepconvert.cli.sweep import sweep
from sepconvert.cli.words import Command
from sepconvert.errors import SepconvertError

app = typer.Typer(
    name="sepconvert",
    help="Make a trained convolutional network smaller and measurably faster: standard convolutions become "
    "depthwise + pointwise pairs, and the report says exactly what was gained and lost.\n\n"
    "One MAC is one multiply-add; FLOPs are 2·MACs; figures are per sample.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (analyze, rewrite, compare, sweep, report, doctor):
    app.command(cls=Command)(command)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print versions and exit.")] = False,
) -> None:
    """Print the version when asked."""
    if version:
        from sepconvert.workflows.diagnosis import runtime_versions

        typer.echo(f"sepconvert {__version__} ({runtime_versions()})")
        raise typer.Exit


def _end(number: int, _: object) -> NoReturn:
    """End as after Ctrl-C, so that the processes of a profile end too, rather than wait for work for minutes."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; a ``SepconvertError`` becomes one line on stderr and its exit code."""
    # Imports and graphs make very many objects and hardly any garbage: looking for it was a tenth of a survey's time.
    gc.set_threshold(100_000, 50, 50)
    signal.signal(signal.SIGTERM, _end)
    try:
        _run()
    except SepconvertError as error:
        _fail(str(error), error.exit_code)
    except MemoryError:
        _fail("The memory does not suffice for this model or these inputs; give smaller or fewer inputs.", 1)
    except OSError as error:
        # What is a file of the user's has a sentence of its own: this is stdout, or a temporary folder.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - what stdout still holds must not fail again at the end
            os.dup2(nowhere.fileno(), 1)
        where = error.filename or "stdout or the temporary folder"
        _fail(f"{where} could not be used ({error.strerror or error}); free some space or choose another place.", 1)
    except KeyboardInterrupt:  # a second one, or one that Typer was not there to see
        sys.exit(130)


def _run() -> None:
    try:
        app()
    except SystemExit:
        if sys.stdout is not None:
            sys.stdout.flush()  # at the end of the interpreter a full disk is a traceback
        raise


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"sepconvert: {message}", err=True)
    sys.exit(code)
