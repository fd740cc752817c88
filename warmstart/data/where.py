"""Conditions on rows: columns that must have given values, e.g. `{source: wikipedia}` or `{genre: [news, reviews]}`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from warmstart.errors import DataError, nearest

Columns = dict[str, list[Any]]
Value = str | int | float | bool
Where = Annotated[dict[str, Value | list[Value]], Field(min_length=1)]


def _size(columns: Columns) -> int:
    return len(next(iter(columns.values()))) if columns else 0


def matches(columns: Columns, where: dict[str, Value | list[Value]]) -> list[bool]:
    """Whether each row has, in every named column, the value (or one of the values); a row without it does not."""
    result = [True] * _size(columns)
    for name, value in where.items():
        allowed = value if isinstance(value, list) else [value]
        found = columns.get(name, [None] * len(result))
        result = [flag and any(one == other for other in allowed) for flag, one in zip(result, found, strict=True)]
    return result


def values_of(columns: Columns, where: dict[str, Value | list[Value]]) -> list[str]:
    """What each row has in the named columns, for `no_match`."""
    lists = [columns.get(name, [None] * _size(columns)) for name in where]
    return [
        ", ".join(f"{name}: {value}" for name, value in zip(where, row, strict=True))
        for row in zip(*lists, strict=True)
    ]


def no_match(where: dict[str, Value | list[Value]], values: list[str]) -> DataError:
    """The error for a condition that no row meets; `values` are some of what `values_of` gave."""
    wanted = ", ".join(f"{name}: {value}" for name, value in where.items())
    return DataError(f"no row where {{{wanted}}}{nearest(wanted, values)}; there is e.g. {'; '.join(values[:8])}")
