"""Curation: row steps that keep, drop, score or balance rows. The contract is that of `warmstart/data/steps.py`."""

from __future__ import annotations

from warmstart.data.steps import RowStep


class Curation(RowStep, room="curate"):
    """Keeps, drops or scores rows. A score goes into the column `score`, where a curriculum finds it."""
