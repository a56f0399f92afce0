"""The ``rewrite`` command that makes one model of a sweep again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepconvert.data import Preprocess
from sepconvert.workflows.options import Measure


@dataclass(frozen=True, slots=True)
class Given:
    """What a sweep was given that a ``rewrite`` of the same model needs too."""

    model: object
    data: str
    test_data: str | None = None
    preprocess: Preprocess = Preprocess()
    input_shapes: Mapping[str, Sequence[int]] | None = None
    weights: Path | str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    measure: Measure = Measure()
    seed: int = 0

    def rewrite(self, form: str, budget: str, value: str) -> list[str] | None:
        """Return the words of the command; None for a live module, which no command can name.

        Args:
            form: as on the command line.
            budget: name of the budget's option without dashes.
            value: of that option.
        """
        if not isinstance(self.model, str | Path):
            return None
        words = ["sepconvert", "rewrite", str(self.model), "--data", self.data]
        if self.test_data is not None:
            words += ["--test-data", self.test_data]
        if self.weights is not None:
            words += ["--weights", str(self.weights)]
        for name, shape in (self.input_shapes or {}).items():
            words += ["--input", f"{name}:{'x'.join(map(str, shape))}"]
        words += _preprocessing(self.preprocess)
        for option, globs in (("--include", self.include), ("--exclude", self.exclude)):
            words += [word for glob in globs for word in (option, glob)]
        if self.measure.devices != ("cpu",):
            words += [word for device in self.measure.devices for word in ("--device", device)]
        if self.measure.threads != 1:
            words += ["--threads", str(self.measure.threads)]
        if self.seed:
            words += ["--seed", str(self.seed)]
        return [*words, "--form", form, f"--{budget}", value]


def _preprocessing(given: Preprocess) -> list[str]:
    words = []
    for option, values in (("mean", given.mean), ("std", given.std)):
        if values is not None:
            words.append(f"--{option}={','.join(map(repr, values))}")  # a first value below zero is no option
    if given.scale is not None:
        words.append(f"--scale={given.scale!r}")
    if given.size is not None:
        words += ["--size", "x".join(map(str, given.size))]
    if given.layout is not None:
        words += ["--layout", given.layout]
    return words
