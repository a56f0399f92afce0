"""The options that several commands share, and how their texts are read."""

from pathlib import Path
from typing import Annotated

import typer

from sepconvert.errors import UsageError

MODEL = typer.Argument(help="The model: an .onnx file (external data beside it is read too).", show_default=False)

Model = Annotated[Path, MODEL]
Data = Annotated[
    str | None,
    typer.Option(
        help="Inputs: an .npz with arrays named after the model's inputs ('x' for a single one, 'y' for integer "
        "labels), an .npy, a folder of images (class sub-folders give labels), or pkg.module:callable yielding dicts.",
        show_default=False,
    ),
]
TestData = Annotated[
    str | None, typer.Option(help="Inputs to measure fidelity on, none of them in --data.", show_default=False)
]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", help="Shape of a dynamic input, as NAME:1x3x224x224; may be repeated.", show_default=False),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        help="Rewrite only sites whose name or output matches this glob; may be repeated.", show_default=False
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Keep sites whose name or output matches this glob; may be repeated.", show_default=False),
]
Device = Annotated[
    list[str] | None,
    typer.Option(help="Device to measure on (cpu, cuda, openvino, ...); may be repeated.", show_default="cpu"),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads for timing.")]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Do not measure latency.")]
Form = Annotated[
    str, typer.Option(help="dw-pw, pw-dw, pw-dw-pw, spatial; auto = the depthwise forms; any = auto and spatial.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that profile sites at the same time.")]
LatencyTable = Annotated[
    Path | None,
    typer.Option(help="Take the times of sites from this table (sweep --export-table).", show_default=False),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Measure the times of sites anew, and do not keep them.")]
Json = Annotated[
    str | None,
    typer.Option("--json", help="Write the record as JSON to this file, or to stdout with '-'.", show_default=False),
]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML page.", show_default=False)]
Mean = Annotated[
    str | None, typer.Option(help="Subtracted from the inputs: one number or one per channel, comma-separated.")
]
Std = Annotated[str | None, typer.Option(help="Divides the inputs after --mean: one number or one per channel.")]
Scale = Annotated[
    str | None, typer.Option(help="Multiplies the inputs first, e.g. 1/255 for bytes.", show_default=False)
]
Size = Annotated[str | None, typer.Option(help="Size images are resized to: 224 or HEIGHTxWIDTH.", show_default=False)]
Layout = Annotated[
    str | None, typer.Option(help="Layout of image inputs: nchw or nhwc.", show_default="from the model")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


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
