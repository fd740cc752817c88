"""What reaches a terminal: no escape sequence and no markup of a name or a file."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import pytest
from canary import obeyed
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from warmstart.cli import app
from warmstart.errors import DataError, RecipeError, UserError, nearest
from warmstart.terminal import Terminal
from warmstart.train.progress import ConsoleReporter
from warmstart.visible import one_line, plain, visible

ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08" * 5, "\u202e", "\u2028", "\x7f", "\ud800", "\0"]


def printed(width: int = 80) -> tuple[Terminal, io.StringIO]:
    target = io.StringIO()
    return Terminal(file=target, force_terminal=True, color_system=None, width=width), target


@settings(max_examples=300, deadline=None)
@given(st.text(st.integers(0, 0x10FFFF).map(chr) | st.sampled_from("".join(ESCAPES))))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert not [sign for sign in visible(text) if obeyed(sign)]
    assert visible(visible(text)) == visible(text)
    assert "\n" not in one_line(text)
    assert len(visible(text)) == len(text)


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("plain", "Ärger, 你好, עברית, 🎉👩‍👩‍👧", "a\tb\nc", "[red]"):
        assert visible(text) == text


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_console_prints_text_as_text(escape: str) -> None:
    console, target = printed()
    table = Table(title=Text(f"t{escape}"))
    table.add_column(f"h{escape}")
    table.add_row(Text(f"c{escape}", style="bold"))
    console.print(f"a{escape}b", markup=False)
    console.print(table)
    console.print(f"[bold]a{escape}b[/]")
    console.print_json(json.dumps({"a": escape}))
    left = target.getvalue()
    assert not [sign for sign in left if obeyed(sign) and sign != "\x1b"], repr(left)
    assert all(
        part[:1] == "[" and part[1:2].isdigit() for part in left.split("\x1b")[1:]
    )  # rich's own: bold on and off


@pytest.mark.parametrize(
    "text", [*ESCAPES, "[red]", "[/]", "[/nothing]", "[link=https://localhost]x", "\\[", ":smile:"]
)
def test_a_run_prints_names_as_they_are(text: str) -> None:
    target = io.StringIO()
    reporter = ConsoleReporter(Terminal(file=target, width=80))
    reporter.event("stage", name=text)
    reporter.event("note", text=text)
    reporter.event("evaluation", step=1, values={text: 1.0})
    reporter.close()
    if text.isprintable() and text != ":smile:":
        assert target.getvalue().count(text) >= 3
    assert not [sign for sign in target.getvalue() if obeyed(sign)]


def test_an_error_is_one_visible_line_however_long() -> None:
    for kind in (UserError, DataError):
        error = kind("a\nb: forged\x1b[31m" + "x" * 10**6)
        assert str(error).startswith("a b: forged␛[31m")
        assert len(str(error)) < 2_100
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    error = RecipeError("first\nforged", "second")
    assert str(error) == "first forged\nsecond"
    assert str(RecipeError(*(f"line {n}" for n in range(100)))).split("\n")[-1] == "... and more problems"


def test_the_nearest_name_of_something_endless_is_none() -> None:
    assert nearest("x" * 10**6, ["x" * 10**5, "xx"]) == ""
    assert nearest("hdden", (f"n{k}" for k in range(10**9))) == ""


@pytest.mark.parametrize(
    "text",
    [
        'title: t\nstages:\n  - "\\e[31m\\nerror: forged": 1\n',
        'title: t\n"sta\\u202eges": []\nstages: []\n',
        'title: t\nstages:\n  - objective: "[red]\\e[2J"\n',
        'title: t\nstages:\n  - {data: {source: {type: files, path: "\\e[2J"}}}\n',
    ],
)
def test_the_command_shows_what_is_wrong_and_nothing_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(text)
    result = CliRunner().invoke(app, ["check", str(tmp_path / "file.yaml")])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("error: ") and "file.yaml" in line for line in lines)
    assert not [sign for sign in result.output if obeyed(sign)]


def test_a_recipe_that_is_fine_but_for_its_title(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(
        'title: "\\e[2J[red]x[/nothing]"\nstages:\n  - {init: {like: gpt2, n_embd: 8, n_head: 1, n_layer: 1}, '
        "tokenizer: {train: 300}, data: {source: python-stdlib}, budget: {steps: 1}}\n"
    )
    result = CliRunner().invoke(app, ["check", str(tmp_path / "file.yaml")])
    assert result.exit_code == 0
    assert result.output.startswith("␛[2J[red]x[/nothing]: 1 stage")


def test_rows_that_are_skipped_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "good row"}\n{"[/bold]\\u001b[2J": 1}\n')
    (tmp_path / "file.yaml").write_text(
        f"stages:\n  - {{init: {{like: gpt2}}, tokenizer: {{train: 300}}, budget: {{steps: 1}}, data: {{source: "
        f'{{type: files, path: "{tmp_path}/rows.jsonl"}}, on_error: skip}}}}\n'
    )
    result = CliRunner().invoke(app, ["data", "run", str(tmp_path / "file.yaml"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "columns: [/bold]␛[2J" in result.output.replace("\n", "")


def test_markdown_shows_text_as_it_is() -> None:
    assert plain("<b>*x*|[a](b)`\n#") == "&lt;b>\\*x\\*\\|\\[a\\](b)\\` #"
