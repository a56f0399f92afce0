"""The whole record and its versioned JSON."""

import json
import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sepconvert.errors import ModelError
from sepconvert.files import read_regular
from sepconvert.record.fidelity import Fidelity
from sepconvert.record.layers import Fold, ModelChanges, ModelLayer, SeparablePair
from sepconvert.record.measured import (
    Environment,
    Latency,
    Plan,
    SampleImages,
    SelfCheck,
    Sweep,
    Tool,
)
from sepconvert.record.network import (
    FormRecord,
    InputInfo,
    InputValues,
    ModelFile,
    NetworkGraph,
    SiteRecord,
    Skip,
    TotalsPair,
)
from sepconvert.record.notes import Note
from sepconvert.record.plain import from_json
from sepconvert.record.summary import (
    cost_rows,
    fidelity_rows,
    latency_row,
    site_line,
    summary_html,
    summary_text,
    timing_remarks,
)

SCHEMA = 2  # its history is in the docstring of ``sepconvert.record``


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """Everything one command found out; see the field types.

    ``command`` is the sub-command; ``arguments`` is everything typed after ``sepconvert``, enough to do it again.
    ``fine_tune`` holds ``steps``, ``curve`` (a list of {``step``, values by name}) and single values; its ``int8`` is
    the same of training with the rounding of INT8, with ``error_before``, ``error_after`` and what was ``kept``.
    ``seconds`` is the time that fitting took, by stage. ``forms`` are all separable forms in a fixed order, the first
    the one that ``sites[].spectrum`` is of. ``input_values`` are of the data that fidelity is measured on.
    ``layers`` are all layers and ``advice`` what to do next, in at
    most three sentences. ``inputs_given`` are the calibration inputs, ``inputs_needed`` those that would do for every
    rewritten layer. ``quick`` is of a first answer, whose predictions are rougher and whose losses larger.
    ``warnings`` say what may be wrong, ``notes`` what was done.
    ``integer_check`` is of the layers that compute in INT8: the largest share of what rounding allows.
    ``separable`` is what is separable already, ``folds`` are sums that fold into pointwise layers.
    ``files`` are the files and folders that were read beside the model; a folder's digest is of its names and sizes.
    ``overlay`` are the times of sites for Model Explorer, to colour its drawing: node data, ``before`` and ``after``.
    """

    command: str
    environment: Environment
    source: ModelFile
    inputs: list[InputInfo]
    sites: list[SiteRecord]
    skipped: list[Skip]
    totals: TotalsPair
    tool: Tool
    output: ModelFile | None = None
    fidelity: Fidelity | None = None
    latency: list[Latency] = field(default_factory=list)
    plan: Plan | None = None
    self_check: SelfCheck | None = None
    integer_check: SelfCheck | None = None
    fine_tune: dict[str, Any] | None = None
    sweep: Sweep | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    graph: NetworkGraph | None = None
    samples: list[SampleImages] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    forms: list[FormRecord] = field(default_factory=list)
    input_values: list[InputValues] = field(default_factory=list)
    layers: list[ModelLayer] = field(default_factory=list)
    separable: list[SeparablePair] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    overlay: dict[str, Any] = field(default_factory=dict)
    files: list[ModelFile] = field(default_factory=list)
    changes: ModelChanges | None = None
    inputs_given: int | None = None
    inputs_needed: int | None = None
    quick: bool = False
    schema: int = SCHEMA

    def telling(self, sentences: Iterable[str]) -> "Record":
        """Return the record with more sentences, each once, among its notes or its warnings."""
        told = list(dict.fromkeys(sentences))
        notes = [*self.notes, *(text for text in told if isinstance(text, Note) and text not in self.notes)]
        warnings = [*self.warnings, *(t for t in told if not isinstance(t, Note) and t not in self.warnings)]
        return replace(self, notes=notes, warnings=warnings)

    def summary(self) -> str:
        """Return a few lines: sizes, errors and times before and after, notes and warnings."""
        return summary_text(*self._figures())

    def __repr__(self) -> str:
        """What an interpreter shows: the same lines, for all there is would fill screens."""
        return self.summary()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return summary_html(*self._figures())

    def _figures(self) -> tuple[list[ModelFile], str, list[list[str]], list[str], list[str]]:
        files = [self.source] if self.output is None else [self.source, self.output]
        rows = [*cost_rows(self.totals), *fidelity_rows(self.fidelity), *map(latency_row, self.latency)]
        remarks = [text for timing in self.latency for text in timing_remarks(timing)]
        return files, site_line(self.sites, self.skipped), rows, [*self.warnings, *remarks], self.notes

    def to_json(self) -> str:
        """Return the record as JSON text (one object, two-space indent)."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, origin: str = "record") -> "Record":
        """Read a record back.

        Raises:
            ModelError: the text is not a record of a known schema; the message names ``origin``.
        """
        try:
            return typing.cast(Record, from_json(Record, text, range(1, SCHEMA + 1)))
        except ValueError as error:
            raise ModelError(f"{origin} is no record, or a damaged one ({error}); make it with --json.") from None

    @staticmethod
    def read(path: Path) -> "Record":
        """Read a record from a file."""
        try:
            text = read_regular(path).decode()
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror}); pass a file written by --json.") from None
        except UnicodeDecodeError:
            raise ModelError(f"{path} is not a text file; pass a record written by --json.") from None
        return Record.from_json(text, str(path))
