"""Which outputs of two versions of one model belong together."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from sepconvert.errors import ModelError
from sepconvert.graph.joined import OutputPart, Parts
from sepconvert.runtime.sessions import Session, TensorInfo


@dataclass(frozen=True, slots=True)
class OutputPair:
    """One output and the parts it is judged by, in both models.

    ``before`` and ``after`` begin with the whole output; its parts follow, where there are others. ``info`` is the
    original's output; ``missing`` names the parts that were asked for but are not found alike in both models.
    """

    info: TensorInfo
    before: tuple[OutputPart, ...]
    after: tuple[OutputPart, ...]
    missing: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Whether the output joins several parts, or one that was cut out of a value."""
        return len(self.before) > 2 or any(part.stretches for part in self.before)

    @property
    def numeric(self) -> bool:
        """Whether the output is a tensor of numbers: neither text nor a sequence or map."""
        return self.info.dtype != "str" and "(" not in self.info.dtype


def pair_outputs(
    first: Session, second: Session, parts: Parts, parts_after: Parts, wanted: Sequence[str] | None
) -> list[OutputPair]:
    """Match outputs by name, or by position where all the names differ; see ``measure_fidelity`` for the arguments.

    Raises:
        ModelError: they do not correspond.
    """
    infos = {info.name: info for info in first.outputs}
    later = {info.name: info for info in second.outputs}
    hidden, hidden_after = _inner(parts), _inner(parts_after)
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
        whole, whole_after = OutputPart(name), OutputPart(partner)
        inner = tuple(part for part in parts.get(name, ()) if part != whole)
        inner_after = tuple(part for part in parts_after.get(partner, ()) if part != whole_after)
        if _alike(inner, inner_after) and _present(inner, infos) and _present(inner_after, later):
            pairs.append(OutputPair(infos[name], (whole, *inner), (whole_after, *inner_after)))
        else:
            missing = tuple(part.name for part in inner or inner_after)
            pairs.append(OutputPair(infos[name], (whole,), (whole_after,), missing))
    return pairs


def _inner(parts: Parts) -> set[str]:
    """The values that parts are of, less the outputs themselves."""
    return {part.value for found in parts.values() for part in found} - parts.keys()


def _alike(some: Sequence[OutputPart], others: Sequence[OutputPart]) -> bool:
    """Whether two walks found the same: as many parts, and the same stretches of values."""
    return [part.stretches for part in some] == [part.stretches for part in others]


def _present(parts: Sequence[OutputPart], infos: Container[str]) -> bool:
    return all(part.value in infos for part in parts)


def _check_shapes(one: TensorInfo, other: TensorInfo) -> None:
    same = len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one.shape, other.shape, strict=True)
    )
    if not same and one.shape and other.shape:
        raise ModelError(
            f"Output '{one.name}' has shape {list(one.shape)} before but {list(other.shape)} after; compare two "
            "versions of one model."
        )
