"""Text from the columns of a row: `"{title}\\n\\n{text}"`, the machinery of every rewriting that only fills in a form.

A template is a format string over the row's columns and nothing else: no attributes, no indexing, no code. `{{` and
`}}` are braces.
"""

from __future__ import annotations

import string
from typing import Any, Literal

from pydantic import Field, field_validator

from warmstart.data.rewrite import Rewrite
from warmstart.data.steps import Columns, column, size
from warmstart.errors import DataError


def slots(template: str) -> list[str]:
    """The columns that a template names, in its order.

    Raises:
        ValueError: not a template, or a slot that is more than a column's name.
    """
    names = []
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or not name.replace("_", "a").replace("-", "a").isalnum() or form or conversion:
            raise ValueError(f"'{{{name}}}' is no slot of a template: a slot is a column's name alone, e.g. '{{text}}'")
        names.append(name)
    return names


def filled(template: str, columns: Columns, missing: str | None = None) -> list[str]:
    """The template filled in for each row.

    Args:
        missing: stands for a value that a row does not have; None makes that an error.

    Raises:
        DataError: a row lacks a column of the template.
    """
    found = {name: columns.get(name) or [None] * size(columns) for name in slots(template)}
    return [
        template.format_map({name: _value(name, values[row], missing) for name, values in found.items()})
        for row in range(size(columns))
    ]


def _value(name: str, value: Any, missing: str | None) -> str:
    if value is None or value == "":
        if missing is None:
            raise DataError(f"no value in column '{name}'")
        return missing
    return str(value)


class Template(Rewrite):
    """A new text from the row's columns."""

    type: Literal["template"] = "template"
    template: str = Field("{text}", description="The new text, with columns in braces.")
    context: str | None = Field(None, description="Text before it that is never a target, with columns in braces.")
    missing: str | None = Field(None, description="Stands for a value that a row lacks; default: that is an error.")

    @field_validator("template", "context")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        if value is not None:
            slots(value)
        return value

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        column(columns, "text")
        changed = {**columns, "text": filled(self.template, columns, self.missing)}
        if self.context is not None:
            changed["context"] = filled(self.context, columns, self.missing)
        return changed
