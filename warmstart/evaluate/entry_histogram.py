"""What the rows of a stage hold: the histogram of the entries that `metadata-filter` found, before and after the steps
that follow it. Needs no model.

Entropy (bits) and Gini say how evenly the matches are spread over the entries; `head` and `tail` are fixed on the pool
(all rows that match), by the share of matches that the tail shall have, so that they mean the same for every arm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.data.curate.metadata_balance import DEFAULT_TAIL_SHARE, count, shape, threshold_for_share
from warmstart.data.curate.metadata_filter import MetadataFilter
from warmstart.data.curated import Notify, Rows, curated
from warmstart.data.engine import Engine
from warmstart.data.steps import Columns
from warmstart.errors import DataError
from warmstart.evaluate import Evaluator

if TYPE_CHECKING:
    from warmstart.recipe_data import Data


class EntryHistogram(Evaluator):
    """`rows/...`: how many rows match and stay, and how their matches are spread over the entries (no model needed)."""

    type: Literal["entry-histogram"] = "entry-histogram"
    of_rows: ClassVar[bool] = True
    tail_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        DEFAULT_TAIL_SHARE, description="Share of the pool's matches that belong to what is called the tail."
    )

    def evaluate_rows(
        self,
        data: Data,
        *,
        engine: Engine | None = None,
        cache_dir: Path | None = None,
        notify: Notify | None = None,
    ) -> dict[str, float]:
        steps = list(data.curate)
        place = next((n for n, step in enumerate(steps) if isinstance(step, MetadataFilter)), None)
        if place is None:
            raise DataError("the evaluator entry-histogram needs the step 'metadata-filter' in data.curate")
        step = steps[place]
        assert isinstance(step, MetadataFilter)

        def made(number: int) -> Rows:
            some = data.model_copy(update={"curate": steps[:number]})
            return curated(some, engine=engine, cache_dir=cache_dir, notify=notify)

        read, matched, kept = made(place), made(place + 1), made(len(steps))
        entries = step.fit(step.measure(columns) for columns in batches(read)).entries
        numbers = {entry: number for number, entry in enumerate(entries)}
        pool, after = histogram(matched, numbers), histogram(kept, numbers)
        return facts(pool, after, rows_of(read), rows_of(matched), rows_of(kept), self.tail_share)


def batches(rows: Rows) -> Iterator[Columns]:
    """The rows of all sources."""
    for number in range(len(rows.files)):
        yield from rows.batches(number)


def rows_of(rows: Rows) -> int:
    """How many there are."""
    return sum(len(columns["text"]) for columns in batches(rows))


def histogram(rows: Rows, numbers: dict[str, int]) -> np.ndarray:
    """(entries,) how many rows hold each entry."""
    found = ([numbers[entry] for entry in entries] for columns in batches(rows) for entries in columns["entries"])
    return count(found, len(numbers))


def facts(
    pool: np.ndarray, after: np.ndarray, read: int, matched: int, kept: int, tail_share: float
) -> dict[str, float]:
    """The metrics; `pool` and `after` are the histograms of the matched rows and of those that stay."""
    threshold = threshold_for_share(pool, tail_share)
    head, tail = pool > threshold, (pool > 0) & (pool <= threshold)
    found = shape(after)
    return {
        "rows/entropy": found["entropy"],
        "rows/gini": found["gini"],
        "rows/max_over_median": found["max_over_median"],
        "rows/read": float(read),
        "rows/match_rate": matched / read,
        "rows/kept": float(kept),
        "rows/kept_share": kept / matched,
        "rows/matches_per_row": found["matches"] / max(kept, 1),
        "rows/entries": found["entries"],
        "rows/entries_zero": float((pool == 0).sum()),
        "rows/entries_head": float(head.sum()),
        "rows/entries_tail": float(tail.sum()),
        "rows/entries_lost": float(((pool > 0) & (after == 0)).sum()),
        "rows/head_share": float(after[head].sum() / max(found["matches"], 1)),
        "rows/tail_kept": float(after[tail].sum() / max(int(pool[tail].sum()), 1)),
        "rows/threshold": threshold,
    }
