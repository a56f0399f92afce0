"""The options that several commands share, and how their texts are read.

A panel of the help groups what a reader decides together; those without one, which most people need, come first.
Units and directions stand in every help text.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sepconvert.errors import UsageError

if TYPE_CHECKING:
    from sepconvert.workflows import Reading

_TYPES = frozenset(["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
HOW, SITES, INPUTS, MEASURING, OUTPUT = "How", "Which sites", "Inputs", "Measuring", "Output"
AGAIN = "From a file (what is typed wins)"


def option(panel: str | None, metavar: str, text: str, *names: str, shown: str | bool = False, **rest: Any) -> Any:
    """An option without a default value; ``shown`` in the help is what holds where it is left away."""
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, show_default=shown, **rest)


def complete_forms() -> list[tuple[str, str]]:
    """Names for ``--form``, and what they mean."""
    from sepconvert.workflows.options import form_words

    return list(form_words().items())


def complete_devices() -> list[str]:
    """Names for ``--device``."""
    from sepconvert.workflows.diagnosis import known_devices

    return known_devices()


def complete_metrics() -> list[str]:
    """Names for ``--metric``."""
    from sepconvert.workflows.metrics import known_metrics

    return known_metrics()


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
    Path | None, option(INPUTS, "FILE", "A state_dict (.pt or .safetensors) for the module of pkg.module:factory.")
]
WeightsKey = Annotated[
    str | None, option(INPUTS, "NAME", "Which of several state_dicts in --weights, for example model_ema.")
]
Data = Annotated[
    str | None,
    option(
        None,
        "FILE|FOLDER|CALLABLE",
        "An .npz with arrays named after the model's inputs ('x' for a single one, 'y' for labels: class numbers, or "
        "what --metric takes), an .npy, a folder of images (class sub-folders give labels), or pkg.module:callable "
        "yielding dicts.",
    ),
]
TestData = Annotated[
    str | None,
    option(INPUTS, "FILE|FOLDER|CALLABLE", "Inputs to measure fidelity on, none of them in --data.", shown="--data"),
]
Input = Annotated[
    list[str] | None,
    option(
        INPUTS,
        "NAME:1x3x224x224[:TYPE]",
        "Shape of a dynamic input, or of an input of pkg.module:factory, where --data does not show it, and its type "
        "if need be (tokens:1x40:int64); may be repeated.",
        "--input",
    ),
]
Mean = Annotated[
    str | None,
    option(INPUTS, "NUMBERS", "Subtracted from the inputs: one number or one per channel, comma-separated."),
]
Std = Annotated[
    str | None, option(INPUTS, "NUMBERS", "Divides the inputs after --mean: one number or one per channel.")
]
Scale = Annotated[str | None, option(INPUTS, "NUMBER", "Multiplies the inputs first, e.g. 1/255 for bytes.")]
Size = Annotated[str | None, option(INPUTS, "224|HEIGHTxWIDTH", "Size that images are resized to, in pixels.")]
Layout = Annotated[
    str | None,
    option(
        INPUTS, "nchw|nhwc", "Layout of image inputs.", shown="from the model", autocompletion=lambda: ["nchw", "nhwc"]
    ),
]
Colours = Annotated[
    str | None,
    option(
        INPUTS,
        "rgb|bgr",
        "Order of an image's channels in the model's inputs: images of a folder are turned into it, pictures on the "
        "page back.",
        shown="rgb",
        autocompletion=lambda: ["rgb", "bgr"],
    ),
]
Labels = Annotated[
    Path | None,
    option(INPUTS, "FILE", "Names of the classes for the page: one per line, or JSON, in the order of the scores."),
]
Include = Annotated[
    list[str] | None,
    option(SITES, "GLOB", "Rewrite only sites whose name or output matches this glob; may be repeated."),
]
Exclude = Annotated[
    list[str] | None, option(SITES, "GLOB", "Keep sites whose name or output matches this glob; may be repeated.")
]
Form = Annotated[
    str,
    typer.Option(
        help="dw-pw, pw-dw, pw-dw-pw, spatial, conv-pw or pw-conv-pw; auto = the depthwise forms; any = every form.",
        metavar="NAME",
        rich_help_panel=HOW,
        autocompletion=complete_forms,
    ),
]
Device = Annotated[
    list[str] | None,
    option(
        MEASURING,
        "NAME",
        "Where to measure: cpu, cuda, openvino, ..., or torch:cpu, torch:cuda for PyTorch; may be repeated, and the "
        "first one is planned for.",
        shown="cpu",
        autocompletion=complete_devices,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads for timing.", metavar="N", rich_help_panel=MEASURING)]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Do not measure latency.", rich_help_panel=MEASURING)]
Jobs = Annotated[
    int | None,
    option(
        MEASURING, "N", "Processes that profile sites at the same time; one per core, at most 4, if not given.", min=1
    ),
]
Cluster = Annotated[
    str | None,
    option(
        MEASURING,
        "tcp://HOST:PORT",
        "A dask scheduler whose workers profile the sites, with the same version of sepconvert; times are still taken "
        "here.",
    ),
]
LatencyTable = Annotated[
    Path | None, option(MEASURING, "FILE", "Take the times of sites from this table (made by sweep --export-table).")
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Time sites (and, with --data, find out what each would lose) anew, and do not keep it.",
        rich_help_panel=MEASURING,
    ),
]
Metric = Annotated[
    str | None,
    option(
        MEASURING,
        "NAME|CALLABLE",
        "What else to measure: top1, mean-iou, psnr, ssim, detection-ap, ctc-text, or pkg.module:callable, a function "
        "of (original's outputs by name, the judged network's, labels or None) whose number is better when larger. A "
        "PyTorch model's outputs have the keys of the dict that it returns. "
        "Without labels the ready ones compare with what the original says.",
        autocompletion=complete_metrics,
    ),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="A first answer in a third to half the time: fewer inputs, steps and timings. It loses more.",
        rich_help_panel=HOW,
    ),
]
Json = Annotated[
    str | None, option(OUTPUT, "FILE|-", "Write the record as JSON to this file, or to stdout with '-'.", "--json")
]
Html = Annotated[Path | None, option(None, "FILE", "Write the report as one HTML page.", "--html")]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=OUTPUT)]
Config = Annotated[
    Path | None,
    option(
        AGAIN,
        "FILE",
        'A TOML file of options, spelled as here without the dashes: data = "cal.npz", speedup = 2, int8 = true, '
        'include = ["a*"]; also model = "m.onnx".',
        "--config",
    ),
]
From = Annotated[
    Path | None,
    option(
        AGAIN,
        "RECORD",
        "Do again what made this record, if its files are still the same. Leave MODEL away; type what shall differ.",
        "--from",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", metavar="N", rich_help_panel=HOW)]


def reading(
    input_: list[str] | None,
    weights: Path | None,
    weights_key: str | None,
    *preprocess: str | None,
    labels: Path | None = None,
) -> "Reading":
    """How model and data are read; ``preprocess`` are ``--mean --std --scale --size --layout --colours``."""
    from sepconvert.data import parse_preprocess
    from sepconvert.workflows import Reading

    shapes = read_input_shapes(input_)
    return Reading(
        input_shapes=shapes,
        input_types=read_input_types(input_),
        weights=weights,
        weights_key=weights_key,
        preprocess=parse_preprocess(*preprocess),
        labels=labels,
    )


def read_numbers(option: str, text: str) -> list[float]:
    """Read comma-separated numbers; ``UsageError`` names the option."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{option} {text} is not a list of numbers; write for example 1.5,2,3.") from None


def read_input_shapes(entries: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Read ``NAME:1x3x224x224`` entries, split at the last colon before the type; ``UsageError`` shows how to write."""
    shapes = {}
    for entry in entries or ():
        name, colon, sizes = _without_type(entry)[0].rpartition(":")
        try:
            shapes[name] = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            colon = ""
        if not colon or min(shapes[name]) < 1:
            raise UsageError(
                f"--input {entry} is not NAME:SIZExSIZE... with a type if need be; write for example "
                "image:1x3x224x224 or tokens:1x40:int64."
            )
    return shapes


def read_input_types(entries: list[str] | None) -> dict[str, str]:
    """Read the types of ``NAME:1x40:int64`` entries."""
    named = (_without_type(entry) for entry in entries or ())
    return {rest.rpartition(":")[0]: dtype for rest, dtype in named if dtype is not None}


def _without_type(entry: str) -> tuple[str, str | None]:
    rest, _, last = entry.rpartition(":")
    return (rest, last) if last in _TYPES else (entry, None)
