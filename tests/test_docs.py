"""The README is short, tells every command, and nothing that it tells is made up."""

import ast
import re
from pathlib import Path

import pytest
import typer

from sepconvert.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(path for folder in ("", "reports", "sepconvert", "tests") for path in (ROOT / folder).glob("*.md"))
MOST_BYTES = 10_000


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


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.encode()) <= MOST_BYTES


def test_every_option_and_argument_is_explained_by_help() -> None:
    group = typer.main.get_command(app)
    silent = [
        f"{name} {parameter.name}"
        for name, command in group.commands.items()
        for parameter in command.params
        if not (getattr(parameter, "help", None) or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_no_option_that_does_not_exist(path: Path) -> None:
    known = {option for options in _commands().values() for option in options} | {"--version", "--help"}
    shown = {
        option
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("sepconvert ")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line)
    }
    assert shown <= known


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_command_s_help_holds_an_example() -> None:
    group = typer.main.get_command(app)
    assert [name for name, command in group.commands.items() if "Example: sepconvert" not in (command.help or "")] == []


def test_the_readme_has_both_commands_to_paste() -> None:
    for marker in ("<!-- first command -->", "<!-- test command -->"):
        block = README.split(marker, 1)[1].split("```", 2)[1]
        lines = [line for line in block.splitlines()[1:] if line.strip()]
        assert len(lines) == 1
        assert lines[0].startswith("python3 -m venv ")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter, which Keras calls
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_readme_s_python_runs_as_the_cells_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_models").symlink_to(Path(__file__).parents[1] / "sample_models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    names: dict[str, object] = {}
    shown = []
    for cell in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(cell, "README.md", "exec"), names)
        last = ast.parse(cell).body[-1]
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Name):
            shown.append(names[last.value.id]._repr_html_())  # type: ignore[attr-defined]
    assert any("relative error of logits" in html for html in shown)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_row_of_a_table_in_a_document_belongs_to_one(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        rows = table.splitlines()
        assert re.fullmatch(r"\|(-+\|)+", rows[1]), f"no heading above: {rows[0]}"
        assert {row.replace(r"\|", "").count("|") for row in rows} == {rows[1].count("|")}
