"""Runs the example of a docstring as a user would who copied it."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any


def run_example(documented: Any, **names: Any) -> dict[str, Any]:
    """Executes every code block (after `::`) of a docstring's `Example:`, with some names given; all names after it."""
    text = inspect.getdoc(documented) or ""
    assert "Example:" in text, f"{documented} has no example"
    code: list[str] = []
    inside: int | None = None  # the indentation of the paragraph whose code block this is
    for line in text.split("Example:", 1)[1].splitlines():
        depth = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and depth <= inside:
            inside = None
        if inside is not None:
            code.append(line)
        elif line.rstrip().endswith("::"):
            inside = depth
    assert code, f"the example of {documented} has no code"
    exec(compile(textwrap.dedent("\n".join(code)), f"example of {documented}", "exec"), names)
    return names
