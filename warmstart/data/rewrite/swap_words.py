"""Texts with two neighbouring words exchanged, and a label that says which: a task about word order without labelling.

Half of the texts (`share`) lose the order of two words that stand side by side; a model that knows only which words go
together cannot tell. Whether and where depends on the seed and the text alone. Texts without two different words that
stand side by side stay as they are.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from warmstart.data.rewrite import Rewrite
from warmstart.data.steps import Columns, column
from warmstart.randomness import numpy_generator

NEIGHBOURS = re.compile(r"(?<!\w)(\w+)(\s+)(?=(\w+)(?!\w))")
KEPT, SWAPPED = "kept", "swapped"


def swapped(text: str, place: float) -> str | None:
    """The text with one pair of neighbouring words exchanged; None where no two different words are neighbours.

    Args:
        place: which pair, from 0 (the first) to 1 (beyond the last).
    """
    pairs = [match for match in NEIGHBOURS.finditer(text) if match[1] != match[3]]
    if not pairs:
        return None
    found = pairs[int(place * len(pairs))]
    return f"{text[: found.start()]}{found[3]}{found[2]}{found[1]}{text[found.end(3) :]}"


class SwapWords(Rewrite):
    """Exchanges two neighbouring words in a share of the texts; a column says in which.

    Example:
        In one's own pipeline, e.g. with `datasets.Dataset.map(step.apply, batched=True)`::

            step = SwapWords(share=1)
            columns = step.apply({"text": ["the cat sat"]})
    """

    type: Literal["swap-words"] = "swap-words"
    share: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Of the texts that are changed.")
    column: str = Field("label", description="The column that gets 'kept' or 'swapped'.")
    seed: int = Field(0, ge=0, lt=2**63)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        texts, labels = [], []
        for text in column(columns, "text"):
            change, place = numpy_generator(self.seed, "swap-words", text).random(2)
            changed = swapped(text, float(place)) if change < self.share else None
            texts.append(text if changed is None else changed)
            labels.append(KEPT if changed is None else SWAPPED)
        return {**columns, "text": texts, self.column: labels}
