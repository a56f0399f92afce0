"""Check an exported program (``.pt2``) before ``torch.export.load``, which trusts all that it finds.

Loading one unpickles sample inputs and some weights and constants without restriction, opens compiled libraries,
evaluates size expressions as Python, and looks up operators by any dotted name. So every part is checked first:

1. entries: only those that ``torch.export.save`` writes for a model; no compiled code, no custom or opaque objects.
2. pickled members: each must load with ``weights_only=True``.
3. the graph: operators of ATen and plain arithmetic only, size expressions made of known functions only.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sepconvert.errors import ModelError
from sepconvert.pytorch.file_kinds import archive_entries
from sepconvert.pytorch.states import load_tensors

_ENTRIES = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/\w+|models/model\.json|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/(sample_inputs|weights|constants)/model\.pt"
)
_OBJECTS = re.compile(r"data/constants/(custom|opaque)_obj_.*")
_STORED = re.compile(r"(weight|tensor)_\d+")

_ARITHMETIC = (
    "abs add and_ eq floordiv ge getitem gt index inv invert le lshift lt mod mul ne neg not_ or_ pos pow rshift sub "
    "truediv xor"
)
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.ops\.aten\.\w+|math\.\w+|torch\.(_?sym_\w+)|_operator\.(" + "|".join(_ARITHMETIC.split()) + ")"
)
_TOUCHES_FILES = re.compile(r"torch\.ops\.aten\.(save|from_file)(\.\w+)?")

_NAMES = (
    "Symbol Integer Float Rational Add Mul Pow Max Min Abs Mod And Or Not Eq Ne Equality Unequality LessThan "
    "StrictLessThan GreaterThan StrictGreaterThan floor ceiling FloorDiv ModularIndexing Where PythonMod CleanDiv "
    "CeilToInt FloorToInt CeilDiv IntTrueDiv FloatTrueDiv LShift RShift IsNonOverlappingAndDenseIndicator TruncToFloat "
    "TruncToInt RoundToInt RoundDecimal ToFloat FloatPow PowByNatural Identity"
)
_FUNCTIONS = frozenset(_NAMES.split())
_NODES = (
    ast.Expression,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)


def check_program(path: Path) -> None:
    """Refuse an exported program that could run code of its own when it is loaded or exported.

    Raises:
        ModelError: it holds something that a saved model has no need of; the message names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = dict(zip(archive_entries(archive, path), archive.infolist(), strict=True))
            _check_entries(entries, path)
            for entry, info in entries.items():
                if entry.endswith(".pt"):
                    load_tensors(archive.read(info), f"{path} ({entry})")
                if entry.endswith("_config.json"):
                    _check_payloads(_read_json(archive, info, path), entry, entries, archive, path)
                if entry.startswith("models/"):
                    _check_graph(_read_json(archive, info, path), path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path} is a damaged archive ({error}); export or download the model again.") from None


def _check_entries(entries: Mapping[str, zipfile.ZipInfo], path: Path) -> None:
    for entry in entries:
        if _OBJECTS.fullmatch(entry):
            raise _refused(path, f"it holds the custom object {entry}, and to load one runs its class's code")
        if not _ENTRIES.fullmatch(entry):
            raise _refused(path, f"it holds {entry}, which an exported model has no need of")
    for needed in ("models/model.json", "data/sample_inputs/model.pt"):
        if needed not in entries:
            raise ModelError(f"{path} holds no {needed}; save the exported program again with torch.export.save.")


def _check_payloads(
    config: Any, entry: str, entries: Mapping[str, zipfile.ZipInfo], archive: zipfile.ZipFile, path: Path
) -> None:
    """Check the list of weights or constants: stored beside it, and harmless where pickled."""
    folder = entry.rsplit("/", 1)[0]
    payloads = config.get("config") if isinstance(config, dict) else None
    if not isinstance(payloads, dict):
        raise _refused(path, f"its {entry} is not a list of tensors")
    for name, payload in payloads.items():
        stored = str(payload.get("path_name")) if isinstance(payload, dict) else "?"
        if not _STORED.fullmatch(stored) or f"{folder}/{stored}" not in entries:
            raise _refused(path, f"'{name}' is kept in '{stored}', which is not a tensor of this archive")
        if payload.get("use_pickle"):
            load_tensors(archive.read(entries[f"{folder}/{stored}"]), f"{path} ({folder}/{stored})")


def _check_graph(graph: Any, path: Path) -> None:
    for key, value in _items(graph):
        if key == "target" and isinstance(value, str):
            if not _OPERATORS.fullmatch(value) or _TOUCHES_FILES.fullmatch(value):
                raise _refused(path, f"its graph calls '{value}', which is not an operator of a network")
        elif key == "expr_str" and not _is_size(value):
            raise _refused(path, f"the size '{str(value)[:80]}' is more than arithmetic")
        elif "default_factory" in key or (isinstance(value, str) and "default_factory_module" in value):
            raise _refused(path, "its inputs or outputs hold a defaultdict, whose factory is imported by name")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of nested JSON objects."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _is_size(text: Any) -> bool:
    """Whether an expression is arithmetic on symbols: it will be evaluated as Python."""
    try:
        tree = ast.parse(text, mode="eval") if isinstance(text, str) else None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return tree is not None and all(_is_arithmetic(node) for node in ast.walk(tree))


def _is_arithmetic(node: ast.AST) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        # Strings are evaluated in their turn: only a symbol's name and the digits of a number are known to be harmless.
        return re.fullmatch(r"[A-Za-z]\w*|-?[\d.]+(e[+-]?\d+)?", node.value) is not None
    return not isinstance(node, ast.Name) or not node.id.startswith("_")


def _read_json(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Any:
    try:
        return json.loads(archive.read(info))
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: {info.filename} is not JSON; export or download the model again.") from None


def _refused(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path} is refused: {reason}; where you trust the model, save it again with torch.export.save, or export it "
        "to .onnx, where it was made."
    )
