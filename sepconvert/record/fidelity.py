"""How closely two models agree: errors of outputs and their parts, choices, and a metric of the user's own."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PartFidelity:
    """How far a part of an output is from the original's; ``relative_error`` is by the part's own variance."""

    name: str
    relative_error: float | None


@dataclass(frozen=True, slots=True)
class ChoiceFidelity:
    """How often both models choose the same class, in an output or a part of one.

    ``agreement`` is the share of ``positions`` at which they do, ``unchanged`` that of the samples in which they do at
    every position.
    """

    name: str
    agreement: float
    positions: int
    unchanged: float


@dataclass(frozen=True, slots=True)
class MetricFidelity:
    """What the metric that was asked for gives, larger is better.

    ``before`` is the original's figure, ``after`` the new model's. ``labelled``: against labels; else what the original
    says was the truth. ``max_drop`` is the fall that was allowed; None where no bound was asked for.
    """

    name: str
    before: float
    after: float
    labelled: bool
    max_drop: float | None = None

    @property
    def drop(self) -> float:
        """How far it fell; below 0 where it rose."""
        return self.before - self.after

    @property
    def bounded(self) -> bool:
        """Whether it falls by no more than is allowed."""
        return self.max_drop is None or self.drop <= self.max_drop


@dataclass(frozen=True, slots=True)
class OutputFidelity:
    """How far one output is from the original's.

    ``relative_error`` = Σ(y−ŷ)² / Σ(y−ȳ)², ȳ the element-wise mean over the samples; None for one sample or a constant
    output. ``pre_activation_relative_error`` is the same before a final Softmax/LogSoftmax/Sigmoid. ``parts`` are the
    values that the output joins, each before its own activation; an output that joins nothing has none.
    """

    name: str
    relative_error: float | None
    pre_activation_relative_error: float | None
    max_abs: float | None
    cosine: float | None
    sqnr_db: float | None
    parts: list[PartFidelity] = field(default_factory=list)

    @property
    def worst_part(self) -> PartFidelity | None:
        """The part that errs most; None where there are no parts, or none is known."""
        known = [part for part in self.parts if part.relative_error is not None]
        return max(known, key=lambda part: part.relative_error or 0.0, default=None)

    @property
    def before_activation(self) -> bool:
        """Whether ``decisive_error`` is the one before the final activation."""
        return self.worst_part is None and self.pre_activation_relative_error is not None

    @property
    def decisive_error(self) -> float | None:
        """The error budgets and gates use: of the worst part, else before the final activation where there is one.

        A part without an error may be constant; where the whole has none either, nothing is known of it.
        """
        if self.parts and self.worst_part is not None:
            constant = self.relative_error is not None or all(part.relative_error is not None for part in self.parts)
            return self.worst_part.relative_error if constant else None
        if self.pre_activation_relative_error is not None:
            return self.pre_activation_relative_error
        return self.relative_error


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Outputs of both models on the same inputs; ``data`` says which. top-1 figures are shares in [0, 1].

    ``choices`` are those that top-1 does not count: several per sample, or of other outputs. ``metric`` is the one that
    was asked for. ``leading_output`` is the first output that is known to hold scores of classes, else the first;
    ``most_changed`` are the places, in the data, of the samples that changed most in it.
    ``fitted``: all are inputs that the new model was fitted to.
    """

    outputs: list[OutputFidelity]
    samples: int
    data: str
    top1_before: float | None = None
    top1_after: float | None = None
    top1_agreement: float | None = None
    choices: list[ChoiceFidelity] = field(default_factory=list)
    metric: MetricFidelity | None = None
    most_changed: list[int] = field(default_factory=list)
    fitted: bool = False
    leading_output: str | None = None

    @property
    def worst_choice(self) -> ChoiceFidelity | None:
        """The choices that changed most; None where none were counted."""
        return min(self.choices, key=lambda choice: choice.agreement, default=None)

    @property
    def least_agreement(self) -> float | None:
        """The smallest share of choices, top-1's among them, that both models make alike; None where none is known."""
        known = [choice.agreement for choice in self.choices]
        known += [] if self.top1_agreement is None else [self.top1_agreement]
        return min(known, default=None)

    @property
    def worst(self) -> OutputFidelity | None:
        """The output whose decisive error is largest, NaN above all; None where none is known."""
        known = [output for output in self.outputs if output.decisive_error is not None]
        return max(known, key=lambda output: _above(output.decisive_error), default=None)


def _above(error: float | None) -> tuple[bool, float]:
    """Order errors, NaN last."""
    assert error is not None
    return error != error, error
