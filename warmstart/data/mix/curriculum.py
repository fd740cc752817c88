"""A curriculum: rows in the order of a score, easy ones first, the pool growing with the budget that is used.

All rows of all sources stand in one line by their score. At every moment a front part of the line, the pool, may be
drawn, and a pacing function of the progress says how large it is. The pool is gone through pass by pass: each pass is a
new shuffled order of the pool as it was when the pass began, so a row is never drawn twice in a pass, and rows that
join in mid-pass wait for the next. The price: the line is in memory (8 bytes per row); and with a budget of about one
epoch the hardest rows are hardly seen unless `until` is well below 1.

Scores come from a curation step (the column `score`); a block's score is the mean over its tokens' documents.

Sources: Y. Bengio et al., "Curriculum Learning", ICML 2009; the root pacing is that of E. A. Platanios et al.,
"Competence-based Curriculum Learning for Neural Machine Translation", 2019 (arXiv 1903.09848), which draws from the
pool with replacement.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.drawing import is_counts, source_names
from warmstart.data.mix.order import Order
from warmstart.errors import DataError, StateError
from warmstart.randomness import derive_seed

Pacing = Literal["linear", "root", "step"]


def available(pacing: Pacing, progress: float, *, initial: float, until: float = 1.0, steps: int = 5) -> float:
    """The share of the rows that may be drawn.

    Args:
        progress: the share of the budget that is used, 0 to 1.
        initial: the share that is there at the beginning.
        until: the progress at which every row is there.
        steps: for `step`: how many sizes in turn, the first one being `initial`.
    """
    done = min(1.0, progress / until)
    if pacing == "linear":
        return initial + (1 - initial) * done
    if pacing == "root":
        return math.sqrt(initial**2 + (1 - initial**2) * done)
    return initial + (1 - initial) * min(1.0, math.floor(done * steps) / max(1, steps - 1))


class Curriculum(Mix):
    """Rows by score: `easy-first` begins with low scores, `hard-first` with high ones."""

    type: Literal["curriculum"] = "curriculum"
    order: Literal["easy-first", "hard-first"] = Field("easy-first", description="Low scores are easy.")
    pacing: Pacing = Field("linear", description="How the pool grows with the progress.")
    initial: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="Share of the rows at the beginning.")
    until: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="The progress at which every row is there.")
    steps: Annotated[int, Field(ge=1)] = Field(5, description="Pacing step: how many sizes the pool has in turn.")

    def start(self, stock: Stock, *, seed: int) -> MixState:
        return _Passes(self, stock, in_line(stock, self.order), seed)

    def pool(self, rows: int, progress: float) -> int:
        """How many of so many rows may be drawn, at least one."""
        share = available(self.pacing, progress, initial=self.initial, until=self.until, steps=self.steps)
        return max(1, math.ceil(share * rows - 1e-9))


def in_line(stock: Stock, order: Literal["easy-first", "hard-first"]) -> np.ndarray:
    """The numbers of all rows, counted over all sources, in the order of their scores; equal ones as they come.

    Raises:
        DataError: a row has no score, or there is none at all.
    """
    found = []
    for number, (name, size) in enumerate(zip(source_names(stock), stock.sizes, strict=True)):
        scores = stock.scores[number] if number < len(stock.scores) else None
        if size and (scores is None or np.isnan(scores).any()):
            lack = "has no scores" if scores is None else f"has {int(np.isnan(scores).sum())} rows without a score"
            raise DataError(
                f"mix: source '{name}' {lack}, which a curriculum goes by; add a step that scores documents to "
                f"data.curate"
            )
        found.append(np.zeros(0) if scores is None else np.asarray(scores, dtype=np.float64))
    line = np.concatenate(found)
    if not len(line):
        raise DataError("mix: there are no rows to draw from")
    return np.argsort(line if order == "easy-first" else -line, kind="stable")


class _Passes(MixState):
    """Passes over the pool: which pass, how large it is, and how far it is."""

    def __init__(self, mix: Curriculum, stock: Stock, line: np.ndarray, seed: int) -> None:
        self._mix, self._line, self._seed = mix, line, seed
        self._ends = list(accumulate(int(size) for size in stock.sizes))
        self._number, self._size, self._place = 0, 0, 0
        self._order: Order | None = None

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        rows = []
        for _ in range(count):
            if self._place == self._size:
                self._number, self._place = self._number + 1, 0
                self._size, self._order = self._mix.pool(len(self._line), progress), None
            if self._order is None:
                self._order = Order(self._size, derive_seed(self._seed, "pass", self._number))
            row = int(self._line[self._order[self._place]])
            source = bisect_right(self._ends, row)
            rows.append((source, row - (self._ends[source - 1] if source else 0)))
            self._place += 1
        return rows

    def report(self) -> dict[str, float]:
        """`curriculum/pool`: the share of the rows that the present pass draws from; `curriculum/passes` begun."""
        return {"curriculum/pool": self._size / len(self._line), "curriculum/passes": float(self._number)}

    def state_dict(self) -> dict[str, Any]:
        return {"pass": [self._number, self._size, self._place]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        found: Any = state.get("pass")
        if not is_counts(found, 3) or found[1] > len(self._line) or found[2] > found[1]:
            raise StateError(f"mix: the saved 'pass' must be a number, a size and a place, found {found!r}")
        (self._number, self._size, self._place), self._order = found, None
