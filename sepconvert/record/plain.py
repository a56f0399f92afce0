"""Dataclasses from JSON that may come from anywhere: every value is checked against its field's type.

Damage of any kind is a ``ValueError`` that says where: wrong types, missing fields, numbers that are not finite, arrays
nested without end, integers of thousands of digits.
"""

import collections.abc
import json
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, NoReturn

_LISTS = (list, tuple, collections.abc.Sequence)
_TABLES = (dict, collections.abc.Mapping)


def from_json(kind: Any, text: str, schemas: range | None = None) -> Any:
    """Make a value of type ``kind`` from JSON; an object must bear one of the numbers ``schemas``, if any are given.

    Raises:
        ValueError: the text is no JSON, of another schema, or does not fit; the message is one line.
    """
    data = _parse(text)
    if schemas is not None:
        found = _need(data, dict, "an object", "").get("schema")
        if found is None:
            raise ValueError("it has no 'schema'")
        if found not in schemas:
            read = " to ".join(map(str, sorted({schemas[0], schemas[-1]})))
            raise ValueError(f"it has schema {_shown(found)}, this version reads {read}")
    return from_plain(kind, data)


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        # Python refuses integers of more than 4,300 digits with advice to programmers.
        raise ValueError("a number that is too large" if "digits" in str(error) else str(error)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """Make a value of type ``kind`` from what ``json.loads`` gives.

    Args:
        kind: a dataclass, a scalar type, ``Any``, or a list, tuple, dict, mapping or union of such.
        value: plain lists, dicts, strings, numbers, None.
        where: the path to ``value``, for messages.

    Raises:
        ValueError: it does not fit; the message names the field.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _any(value, where)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, where)
    if origin in _LISTS:
        return _list(origin, arguments, value, where)
    if origin in _TABLES:
        known = _need(value, dict, "an object", where)
        return {_text(name): from_plain(arguments[1], item, f"{where}.{name}") for name, item in known.items()}
    if is_dataclass(kind):
        return _dataclass(kind, _need(value, dict, "an object", where), where)
    return _scalar(kind, value, where)


def _any(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_any(item, where) for item in value]
    if isinstance(value, dict):
        return {_text(name): _any(item, f"{where}.{name}") for name, item in value.items()}
    return None if value is None else _scalar(type(value), value, where)


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    options = [kind for kind in kinds if kind is not type(None)]
    for kind in options[:-1]:
        try:
            return from_plain(kind, value, where)
        except ValueError:
            continue
    return from_plain(options[-1], value, where)


def _list(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    items = _need(value, list, "a list", where)
    if origin is tuple and arguments[-1] is not ...:
        if len(items) != len(arguments):
            raise ValueError(f"{where.lstrip('.')} holds {len(items)} values instead of {len(arguments)}")
        kinds: tuple[Any, ...] = arguments
    else:
        kinds = (arguments[0],) * len(items)
    found = [from_plain(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, items, strict=True))]
    return found if origin is list else tuple(found)


def _dataclass(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints, known = _hints(kind), {}
    for field in fields(kind):
        if not field.init:
            continue  # follows from the others
        if field.name in value:
            known[field.name] = from_plain(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where.lstrip('.') or kind.__name__} lacks '{field.name}'")
    return kind(**known)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        number = _need(value, (int, float), "a number", where)
        try:
            return value if isfinite(number) else _refuse_constant(str(value))
        except OverflowError:
            raise ValueError(f"{where.lstrip('.')} is a number that is too large") from None
    if kind is int and abs(_need(value, int, "a whole number", where)) >= 2**63:
        raise ValueError(f"{where.lstrip('.')} is a number that is too large")
    names = {int: "a whole number", str: "a text", bool: "true or false"}
    found = _need(value, kind, names.get(kind, kind.__name__), where)
    return _text(found) if kind is str else found


def _need(value: Any, kind: Any, name: str, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where.lstrip('.') or 'it'} is {_shown(value)}, not {name}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _text(text: str) -> str:
    """Half characters, which no file can hold, as the escapes they were."""
    return text.encode("utf-8", "backslashreplace").decode()
