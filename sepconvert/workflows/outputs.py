"""Where a workflow writes its record and its page: checked before the work starts, written whole or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sepconvert.errors import OutputError
from sepconvert.files import Stage, check_outputs, staged
from sepconvert.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Files asked for beside the model.

    Args:
        json: where the record goes; '-' is left to the caller.
        html: where the page of the record goes.
        force: whether files that exist are replaced.
        arguments: everything typed after ``sepconvert``, for the record.

    Example:
        >>> from sepconvert import Outputs
        >>> [path.name for path in Outputs(json="record.json", html="page.html").paths()]
        ['record.json', 'page.html']
    """

    json: Path | str | None = None
    html: Path | str | None = None
    force: bool = False
    arguments: tuple[str, ...] = ()

    def paths(self) -> list[Path]:
        """Return the files that will be written."""
        json = [] if self.json in (None, "-") else [Path(str(self.json))]
        return json + ([] if self.html is None else [Path(self.html)])

    def check(self, *inputs: Path, also: Iterable[Path] = ()) -> None:
        """Refuse, before any work is done, what could not be written at the end.

        Args:
            inputs: files that the same command reads.
            also: files that it writes besides the record and the page.

        Raises:
            OutputError: as ``sepconvert.files.check_outputs``.
        """
        check_outputs([*also, *self.paths()], force=self.force, inputs=inputs)

    def write(self, record: Record) -> None:
        """Write the record and the page, both or none."""
        with staged() as stage:
            self.stage(stage, record)

    def stage(self, stage: Stage, record: Record) -> None:
        """Write the record and the page on a stage."""
        if self.json not in (None, "-"):
            stage.write(Path(str(self.json)), record.to_json())
        if self.html is not None:
            from sepconvert.report.page import render

            stage.write(Path(self.html), render(record))


_FRAMEWORKS = (".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".h5", ".keras", ".tflite", ".pb")
_OTHER_KINDS = frozenset({*_FRAMEWORKS, ".npz", ".npy", ".json", ".html"})


def check_model_name(path: Path) -> None:
    """Refuse to write an ONNX model under the name of something else.

    Raises:
        OutputError: the suffix is another format's.
    """
    if path.suffix.lower() in _OTHER_KINDS:
        raise OutputError(
            f"{path} would hold an ONNX model, which its suffix denies; name it {path.with_suffix('.onnx').name} "
            "(beside the result of a PyTorch model its state_dict is written too)."
        )
