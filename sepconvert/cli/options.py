"""The options that several commands share, and how their texts are read.

A panel of the help groups what a reader decides together. Units and directions stand in every help text.
"""

from pathlib import Path
from typing import Annotated

import typer

from sepconvert.errors import UsageError

SITES, INPUTS, MEASURING, OUTPUT = "Which sites", "Inputs", "Measuring", "Output"


def complete_forms() -> list[tuple[str, str]]:
    """Names for ``--form``, and what they mean."""
    from sepconvert.workflows.options import form_words

    return list(form_words().items())


def complete_devices() -> list[str]:
    """Names for ``--device``."""
    from sepconvert.workflows.diagnosis import known_devices

    return known_devices()


Model = Annotated[
    str,
    typer.Argument(
        help="An .onnx file (external data beside it is read too); with PyTorch also a .pt2 (torch.export), a "
        "TorchScript file, or pkg.module:factory, a function that returns an nn.Module.",
        metavar="MODEL",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="A state_dict (.pt or .safetensors) for the module of pkg.module:factory.",
        metavar="FILE",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="An .npz with arrays named after the model's inputs ('x' for a single one, 'y' for integer labels), an "
        ".npy, a folder of images (class sub-folders give labels), or pkg.module:callable yielding dicts.",
        metavar="FILE|FOLDER|CALLABLE",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
TestData = Annotated[
    str | None,
    typer.Option(
        help="Inputs to measure fidelity on, none of them in --data.",
        metavar="FILE|FOLDER|CALLABLE",
        rich_help_panel=INPUTS,
        show_default="--data",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Shape of a dynamic input, or of an input of pkg.module:factory; may be repeated.",
        metavar="NAME:1x3x224x224",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Subtracted from the inputs: one number or one per channel, comma-separated.",
        metavar="NUMBERS",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        help="Divides the inputs after --mean: one number or one per channel.",
        metavar="NUMBERS",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        help="Multiplies the inputs first, e.g. 1/255 for bytes.",
        metavar="NUMBER",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Size that images are resized to, in pixels.",
        metavar="224|HEIGHTxWIDTH",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        help="Layout of image inputs.",
        metavar="nchw|nhwc",
        rich_help_panel=INPUTS,
        show_default="from the model",
        autocompletion=lambda: ["nchw", "nhwc"],
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        help="Rewrite only sites whose name or output matches this glob; may be repeated.",
        metavar="GLOB",
        rich_help_panel=SITES,
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Keep sites whose name or output matches this glob; may be repeated.",
        metavar="GLOB",
        rich_help_panel=SITES,
        show_default=False,
    ),
]
Form = Annotated[
    str,
    typer.Option(
        help="dw-pw, pw-dw, pw-dw-pw or spatial; auto = the depthwise forms; any = auto and spatial.",
        metavar="NAME",
        autocompletion=complete_forms,
    ),
]
Device = Annotated[
    list[str] | None,
    typer.Option(
        help="Where to measure: cpu, cuda, openvino, ...; may be repeated, and the first one is planned for.",
        metavar="NAME",
        rich_help_panel=MEASURING,
        show_default="cpu",
        autocompletion=complete_devices,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads for timing.", metavar="N", rich_help_panel=MEASURING)]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Do not measure latency.", rich_help_panel=MEASURING)]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that profile sites at the same time; one per core, at most 4, if not given.",
        metavar="N",
        show_default=False,
        rich_help_panel=MEASURING,
    ),
]
LatencyTable = Annotated[
    Path | None,
    typer.Option(
        help="Take the times of sites from this table (made by sweep --export-table).",
        metavar="FILE",
        rich_help_panel=MEASURING,
        show_default=False,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Time sites (and, with --data, find out what each would lose) anew, and do not keep it.",
        rich_help_panel=MEASURING,
    ),
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        help="Write the record as JSON to this file, or to stdout with '-'.",
        metavar="FILE|-",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write the report as one HTML page.",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=OUTPUT)]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", metavar="N")]


def read_numbers(option: str, text: str) -> list[float]:
    """Read comma-separated numbers; ``UsageError`` names the option."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{option} {text} is not a list of numbers; write for example 1.5,2,3.") from None


def read_input_shapes(entries: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Read ``NAME:1x3x224x224`` entries, split at the last colon; ``UsageError`` shows how to write them."""
    shapes = {}
    for entry in entries or ():
        name, colon, sizes = entry.rpartition(":")
        try:
            shapes[name] = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            colon = ""
        if not colon or min(shapes[name]) < 1:
            raise UsageError(f"--input {entry} is not NAME:SIZExSIZE...; write for example image:1x3x224x224.")
    return shapes
