"""Rewriting: row steps that change what the model reads. The contract is that of `warmstart/data/steps.py`.

Rewriting comes after the split, so that a document stays on its side whatever is made of it. A rewriting may change
`text`, make several rows of one, or set `context`: text that stands before the document's own, is tokenised apart from
it, and is never a target.
"""

from __future__ import annotations

from warmstart.data.steps import RowStep


class Rewrite(RowStep, room="rewrite"):
    """Changes rows: their text, or what stands before it."""
