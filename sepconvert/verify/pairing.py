"""Which outputs of two versions of one model belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepconvert.errors import ModelError
from sepconvert.runtime.sessions import Session, TensorInfo


@dataclass(frozen=True, slots=True)
class OutputPair:
    """One output, and the value before its activation where that is measured: names in both models.

    ``before`` and ``after`` are ``(output,)`` or ``(output, pre-activation)``; ``info`` is the original's output;
    ``missing`` names a pre-activation value that was asked for but is no output of both models.
    """

    info: TensorInfo
    before: tuple[str, ...]
    after: tuple[str, ...]
    missing: str | None = None

    @property
    def numeric(self) -> bool:
        """Whether the output is a tensor of numbers: neither text nor a sequence or map."""
        return self.info.dtype != "str" and "(" not in self.info.dtype


def pair_outputs(
    first: Session, second: Session, pre: Mapping[str, str], pre_after: Mapping[str, str], wanted: Sequence[str] | None
) -> list[OutputPair]:
    """Match outputs by name, or by position where all the names differ; see ``measure_fidelity`` for the arguments.

    Raises:
        ModelError: they do not correspond.
    """
    infos = {info.name: info for info in first.outputs}
    later = {info.name: info for info in second.outputs}
    hidden, hidden_after = set(pre.values()), set(pre_after.values())
    names = list(wanted) if wanted is not None else [name for name in infos if name not in hidden]
    partners = names
    if not any(name in later for name in names):
        partners = [name for name in later if name not in hidden_after]
    if len(partners) != len(names) or not all(name in later for name in partners):
        raise ModelError(
            f"The models' outputs do not correspond: {', '.join(names)} before, {', '.join(later)} after; compare two "
            "versions of one model."
        )
    pairs = []
    for name, partner in zip(names, partners, strict=True):
        if name not in infos:
            raise ModelError(f"The original model has no output '{name}'; it has {', '.join(infos)}.")
        _check_shapes(infos[name], later[partner])
        inner, inner_after = pre.get(name), pre_after.get(partner)
        if inner in infos and inner_after in later:
            pairs.append(OutputPair(infos[name], _names(name, inner), _names(partner, inner_after)))
        else:
            pairs.append(OutputPair(infos[name], (name,), (partner,), missing=inner))
    return pairs


def _names(output: str, inner: str | None) -> tuple[str, ...]:
    return (output,) if inner is None else (output, inner)


def _check_shapes(one: TensorInfo, other: TensorInfo) -> None:
    same = len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one.shape, other.shape, strict=True)
    )
    if not same and one.shape and other.shape:
        raise ModelError(
            f"Output '{one.name}' has shape {list(one.shape)} before but {list(other.shape)} after; compare two "
            "versions of one model."
        )
