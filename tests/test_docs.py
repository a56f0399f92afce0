"""The README tells every command and every option, and nothing it tells is made up."""

import ast
import re
from pathlib import Path

import pytest
import typer

from sepconvert.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _commands() -> dict[str, set[str]]:
    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        found[name] = {
            max(option.opts, key=len) for option in command.params if option.opts and option.opts[0].startswith("-")
        } - {"--help"}
    return found


def test_every_command_has_an_example_in_the_readme() -> None:
    missing = [name for name in _commands() if not re.search(rf"^\s*sepconvert {name}\b", README, re.MULTILINE)]
    assert missing == []


def test_every_option_is_in_the_readme() -> None:
    options = {option for options in _commands().values() for option in options}
    assert [option for option in sorted(options) if f"{option}" not in README] == []


def test_the_readme_names_no_option_that_does_not_exist() -> None:
    known = {option for options in _commands().values() for option in options} | {"--version", "--help"}
    shown = {
        option
        for line in README.splitlines()
        if line.strip().startswith("sepconvert ")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line)
    }
    assert shown <= known


def test_every_command_s_help_holds_an_example() -> None:
    group = typer.main.get_command(app)
    assert [name for name, command in group.commands.items() if "Example: sepconvert" not in (command.help or "")] == []


def test_the_readme_has_both_commands_to_paste() -> None:
    for marker in ("<!-- first command -->", "<!-- test command -->"):
        block = README.split(marker, 1)[1].split("```", 2)[1]
        lines = [line for line in block.splitlines()[1:] if line.strip()]
        assert len(lines) == 1
        assert lines[0].startswith("python3 -m venv ")


def test_the_readme_s_python_runs_as_the_cells_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_models").symlink_to(Path(__file__).parents[1] / "sample_models")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = []
    for cell in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(cell, "README.md", "exec"), names)
        last = ast.parse(cell).body[-1]
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Name):
            shown.append(names[last.value.id]._repr_html_())  # type: ignore[attr-defined]
    assert any("relative error of logits" in html for html in shown)


def test_every_row_of_a_table_in_the_readme_belongs_to_one() -> None:
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    for table in tables:
        rows = table.splitlines()
        assert re.fullmatch(r"\|(-+\|)+", rows[1]), f"no heading above: {rows[0]}"
        assert {row.replace(r"\|", "").count("|") for row in rows} == {rows[1].count("|")}
