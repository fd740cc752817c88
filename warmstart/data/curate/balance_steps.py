"""The parts `metadata-balance` and `equal-size-sample`: rows balanced over what they hold, and the control for that.

Both read a column with the entries of each row (`entries`, which `metadata-filter` writes; a label or a list of tags
serves as well) and drop rows that have none. The balance itself stands in `metadata_balance.py`.

A balanced subset is smaller than its pool, and a smaller set trains differently. So it is compared with a uniform
sample of exactly as many rows, for which the control repeats the balance's own draw; it must remember the entries of
every row for that (4 bytes each), where the balance itself remembers one number per distinct entry.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.curate.metadata_balance import (
    DEFAULT_TAIL_SHARE,
    either,
    entry_probabilities,
    keeps,
    threshold_for_share,
    uniform,
)
from warmstart.data.steps import Columns, column, kept
from warmstart.errors import DataError


class BalanceSettings(Curation):
    """What a balance and its control have in common."""

    fits: ClassVar[bool] = True
    column: str = Field("entries", description="The column with each row's entries: a list, or one value.")
    threshold: Annotated[float, Field(ge=1)] | None = Field(
        None, description="Entries in at most so many rows are the tail, which is kept whole."
    )
    tail_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description=f"Set the threshold so that the tail has this share of matches; default {DEFAULT_TAIL_SHARE}.",
    )
    seed: int = Field(0, description="Another seed is another draw.")
    epoch: Annotated[int, Field(ge=0)] = Field(0, description="Another epoch is another draw.")

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.threshold is not None and self.tail_share is not None:
            raise ValueError("give 'threshold' or 'tail_share', not both")
        return self

    def entries_of(self, columns: Columns) -> list[list[str]]:
        """The entries of each row, each once.

        Raises:
            DataError: there is no such column.
        """
        return [_entries(value) for value in column(columns, self.column)]

    def probabilities(self, counts: Counter[str]) -> dict[str, float]:
        """With which probability each entry keeps a row, from the number of rows that hold it.

        Raises:
            DataError: no row has an entry.
        """
        if not counts:
            raise DataError(f"no row has anything in column '{self.column}': there is nothing to balance")
        found = np.fromiter(counts.values(), np.int64, len(counts))
        share = DEFAULT_TAIL_SHARE if self.tail_share is None else self.tail_share
        threshold = threshold_for_share(found, share) if self.threshold is None else self.threshold
        return dict(zip(counts, entry_probabilities(found, threshold).tolist(), strict=True))

    def draw(self, columns: Columns, probabilities: dict[str, float]) -> list[bool]:
        """Whether each row stays."""
        return [
            keeps(either([probabilities[entry] for entry in entries]), self.seed, self.epoch, name)
            for entries, name in zip(self.entries_of(columns), names_of(columns), strict=True)
        ]


def _entries(value: Any) -> list[str]:
    if value is None:
        return []
    return list(dict.fromkeys(map(str, value))) if isinstance(value, list) else [str(value)]


def names_of(columns: Columns) -> list[str]:
    """What a row's draw depends on: its source and its id there."""
    return [f"{source}\x1f{row}" for source, row in zip(columns["source"], columns["id"], strict=True)]


class MetadataBalance(BalanceSettings):
    """Thins out rows that hold nothing but frequent entries; a row with a rare entry stays."""

    type: Literal["metadata-balance"] = "metadata-balance"

    def measure(self, columns: Columns) -> Columns:
        counts = Counter(entry for entries in self.entries_of(columns) for entry in entries)
        return {"entry": list(counts), "rows": list(counts.values())}

    def fit(self, measured: Iterator[Columns]) -> dict[str, float]:
        """The probability of each entry."""
        counts: Counter[str] = Counter()
        for columns in measured:
            counts.update(dict(zip(columns["entry"], columns["rows"], strict=True)))
        return self.probabilities(counts)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return kept(columns, self.draw(columns, fitted))


class EqualSizeSample(BalanceSettings):
    """A uniform sample of the rows with entries, exactly as many as `metadata-balance` keeps with the same settings."""

    type: Literal["equal-size-sample"] = "equal-size-sample"

    def measure(self, columns: Columns) -> Columns:
        names = names_of(columns)
        return {
            "row": columns["row"],
            "entries": self.entries_of(columns),
            "source": columns["source"],
            "id": columns["id"],
            "place": [uniform(self.seed, self.epoch, f"sample\x1f{name}") for name in names],
        }

    def fit(self, measured: Iterator[Columns]) -> set[int]:
        """The numbers of the rows that stay: those with the smallest numbers of a draw of their own."""
        ids: dict[str, int] = {}
        counts: Counter[str] = Counter()
        entries, ends = array("i"), array("q")
        rows, places, draws = array("q"), array("d"), array("d")
        for columns in measured:
            for found, name in zip(columns["entries"], names_of(columns), strict=True):
                counts.update(found)
                entries.extend(ids.setdefault(entry, len(ids)) for entry in found)
                ends.append(len(entries))
                draws.append(uniform(self.seed, self.epoch, name))
            rows.extend(columns["row"])
            places.extend(columns["place"])
        probabilities = self.probabilities(counts)
        numbered = [probabilities[entry] for entry in ids]
        size, start = 0, 0
        for number, end in enumerate(ends):
            size += draws[number] < either([numbered[entry] for entry in entries[start:end]])
            if start == end:
                places[number] = math.inf  # no entry: never a part of the pool
            start = end
        order = np.argsort(np.asarray(places), kind="stable")[:size]
        return {rows[int(number)] for number in order}

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return kept(columns, [row in fitted for row in columns["row"]])
