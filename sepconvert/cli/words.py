"""Words of a command that stand in a file: options in TOML (``--config``), or what a record was made by (``--from``).

They come before the words that are typed, so that an option that is typed wins.
"""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from sepconvert.errors import UsageError
from sepconvert.files import read_regular

_WORDS = "sepconvert.words"


class Command(TyperCommand):
    """A command that takes words from files, too; its options ``--config`` and ``--from`` are read here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the words of the files before those that were typed, and keep all of them for the record."""
        typed, found = list(args), []
        for option, words in (("--from", _from_record), ("--config", _from_toml)):
            path = _taken(typed, option)
            if path is not None:
                found += words(self, path)
        ctx.meta[_WORDS] = [str(self.name), *found, *typed]
        ctx.allow_extra_args = True  # refused here, in words that help
        extra = super().parse_args(ctx, [*found, *typed])
        if extra:
            output = any("-o" in option.opts for option in self.params)
            way = " The output's name is given with -o." if output else ""
            raise UsageError(f"'{extra[0]}' is one argument too many; see sepconvert {self.name} --help.{way}")
        return extra


def words_of(ctx: typer.Context) -> tuple[str, ...]:
    """The whole command, as if all of it had been typed."""
    return tuple(ctx.meta[_WORDS])


def _taken(words: list[str], option: str) -> Path | None:
    """Take an option and its value out of the words."""
    for place, word in enumerate(words):
        if word.startswith(f"{option}="):
            return Path(words.pop(place).partition("=")[2])
        if word == option and place + 1 < len(words):
            del words[place]
            return Path(words.pop(place))
    return None


def _from_record(command: Command, path: Path) -> list[str]:
    from sepconvert.workflows.again import arguments_again

    return arguments_again(path, str(command.name))


def _from_toml(command: Command, path: Path) -> list[str]:
    """Words for the entries of a file.

    Raises:
        UsageError: it cannot be read, is no TOML, or names what the command does not know.
    """
    try:
        entries = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read ({error.strerror}); check the path.") from None
    except ValueError as error:  # also no UTF-8
        raise UsageError(f"--config {path} is no TOML ({error}); write for example speedup = 2.") from None
    positional: list[str] = []
    options: list[str] = []
    for parameter in command.params:
        name = max(parameter.opts, key=len).removeprefix("--")
        if name not in entries or name in ("config", "from"):
            continue
        values = _values(entries.pop(name), path, name)
        if parameter.param_type_name == "argument":
            positional += values
        elif getattr(parameter, "is_flag", False):
            options += _flag(values, path, name)
        elif getattr(parameter, "multiple", False):
            options += [f"--{name}={value}" for value in values]
        else:
            options.append(f"--{name}={','.join(values)}")
    if entries:
        raise UsageError(
            f"--config {path} has {', '.join(map(repr, entries))}, which {command.name} does not know; "
            f"sepconvert {command.name} --help lists its options."
        )
    return [*positional, *options]


def _values(value: object, path: Path, name: str) -> list[str]:
    if isinstance(value, list):
        return [word for one in value for word in _values(one, path, name)]
    if isinstance(value, bool):
        return [str(value).lower()]
    if not isinstance(value, str | int | float):
        raise UsageError(f"--config {path}: {name} is neither text, number, true, false, nor a list of such.")
    return [str(value)]


def _flag(values: Sequence[str], path: Path, name: str) -> Iterator[str]:
    if list(values) not in (["true"], ["false"]):
        raise UsageError(f"--config {path}: {name} is on or off; write {name} = true.")
    if values[0] == "true":
        yield f"--{name}"
