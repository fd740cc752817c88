"""Curation: steps that keep, drop or score rows.

A step works on a *batch of rows* (`dict[str, list]`), the form that `datasets.Dataset.map(batched=True)` and
`ray.data.Dataset.map_batches` take, so that the same step runs anywhere.
"""

from __future__ import annotations

from typing import Any

from warmstart.part import Part

Columns = dict[str, list[Any]]


class Curation(Part, room="curate"):
    """The contract of a row step."""

    def start(self) -> RowStep:
        """A function of a batch of columns; it may remember what it saw, over all sources of a stage."""
        raise NotImplementedError


class RowStep:
    """A started step: called with columns in order, gives the columns that stay."""

    def __call__(self, columns: Columns) -> Columns:
        raise NotImplementedError
