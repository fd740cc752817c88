"""Keep a budget of rows by a score: the best, the worst, the middle, or at random; over all rows or in equal or
proportional parts of each source, cluster or other group.

Documents stay whole: rows are taken in the order of the score until the budget is reached, so that the last one may go
over it. Tokens are estimated from bytes of UTF-8, because the tokenizer of a stage is trained on what is left here.
Memory of `fit`: about 30 bytes a row, and the groups' names.

Guo et al. (2406.14833): the s tokens of lowest perplexity; Wenzek et al., "CCNet" (1911.00359): head, middle and tail;
Marion et al., "When Less is More" (2309.04564): the middle is a strong choice for perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

import numpy as np
import xxhash
from pydantic import BaseModel, ConfigDict, Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.curate.row_numbers import flags
from warmstart.data.steps import Columns, column, kept, size
from warmstart.errors import DataError, nearest

Order = Literal["highest", "lowest", "middle", "random"]
Division = Literal["proportional", "equal"]


def take(scores: np.ndarray, sizes: np.ndarray, budget: float, order: Order = "highest") -> np.ndarray:
    """Which documents a budget buys: a prefix of the documents in the order of their scores.

    Args:
        scores: float64 `(documents,)`. Equal scores are taken in the order given.
        sizes: `(documents,)`, what each costs of the budget.
        budget: reached by the last document taken and not before it; none is taken for 0.
        order: `middle` begins at the document in whose neighbourhood half of the total size has a lower score.
            `random` is `highest`: the scores are the random numbers.

    Returns:
        Numbers of documents in the order in which they are taken, int64.

    Raises:
        DataError: the budget is more than there is.
    """
    if budget > float(sizes.sum()) * (1 + 1e-9):
        raise _too_much(budget, float(sizes.sum()))
    places = np.argsort(scores if order in ("lowest", "middle") else -scores, kind="stable")
    if order == "middle":
        centre = _before(sizes[places]) + sizes[places] / 2
        places = places[np.argsort(np.abs(centre - sizes.sum() / 2), kind="stable")]
    return places[_before(sizes[places]) < budget * (1 - 1e-12)]


def take_divided(
    scores: np.ndarray,
    sizes: np.ndarray,
    budget: float,
    groups: np.ndarray,
    order: Order = "highest",
    division: Division = "proportional",
) -> np.ndarray:
    """As `take`, but the budget is divided over groups: each gives a prefix of its documents, of about its part's size.

    Groups take turns, so that all are filled to the same degree when the whole budget is reached: the total is over
    the budget by less than one document, however many groups there are.

    Args:
        groups: the number of each document's group, int `(documents,)`.
    """
    result = take(scores, sizes, float(sizes.sum()), order)  # all of them, in order
    if not len(result):
        return result
    _, place = np.unique(groups, return_inverse=True)
    parts = shares(np.bincount(place, weights=sizes), budget, division)
    degree = np.zeros(len(scores))
    for group, part in enumerate(parts):
        inside = result[place[result] == group]
        degree[inside] = (np.cumsum(sizes[inside]) - sizes[inside] / 2) / max(part, 1e-300)
    if budget > float(sizes.sum()) * (1 + 1e-9):
        raise _too_much(budget, float(sizes.sum()))
    result = result[np.argsort(degree[result], kind="stable")]
    return result[_before(sizes[result]) < budget * (1 - 1e-12)]


def shares(totals: np.ndarray, budget: float, division: Division) -> np.ndarray:
    """A budget over groups, `(groups,)`; where a group has less than its equal part, the others share the rest."""
    if division == "proportional":
        return np.asarray(totals * (budget / totals.sum()))
    result = np.zeros(len(totals))
    left = budget
    for done, group in enumerate(np.argsort(totals, kind="stable")):
        result[group] = min(float(totals[group]), left / (len(totals) - done))
        left -= result[group]
    return result


def _before(sizes: np.ndarray) -> np.ndarray:
    return np.cumsum(sizes) - sizes


def _too_much(budget: float, total: float) -> DataError:
    return DataError(f"the budget of {budget:,.0f} is more than the {total:,.0f} that there are")


class Budget(BaseModel):
    """How much to keep: exactly one of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    documents: int | None = Field(None, ge=1)
    characters: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1, description="Estimated from bytes of UTF-8, see `bytes_per_token`.")
    share: float | None = Field(None, gt=0, le=1, description="Of the characters of all rows.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set - {n for n in self.model_fields_set if getattr(self, n) is None}) != 1:
            raise ValueError("needs exactly one of documents, characters, tokens, share")
        return self


class Select(Curation):
    """Keeps a budget of rows by a score."""

    type: Literal["select"] = "select"
    fits: ClassVar[bool] = True
    budget: Budget
    order: Order = Field("highest", description="`middle`: around the median; `random` needs no score.")
    by: str = Field("score", description="The column that holds the score.")
    per: str | None = Field(None, description="Divide the budget over the values of this column, e.g. `source`.")
    division: Division = Field(
        "proportional", description="To each group's size, or the same for each as far as it reaches."
    )
    bytes_per_token: float = Field(4.0, gt=0, description="For a budget in tokens; 4 is usual for English.")
    seed: int = Field(0, ge=0, lt=2**63, description="For `random`.")

    def measure(self, columns: Columns) -> Columns:
        groups = ["" if value is None else str(value) for value in columns.get(self.per, [])] if self.per else []
        return {
            "row": columns["row"],
            "score": self._scores(columns),
            "size": [self._size(text) for text in column(columns, "text")],
            "group": groups or [""] * size(columns),
        }

    def fit(self, measured: Iterator[Columns]) -> np.ndarray:
        """The numbers of the rows to keep, ascending."""
        names: dict[str, int] = {}
        parts: list[list[np.ndarray]] = [[], [], [], []]
        for columns in measured:
            groups = [names.setdefault(name, len(names)) for name in columns["group"]]
            found: list[tuple[list[Any], Any]] = [
                (columns["row"], np.int64),
                (columns["score"], np.float64),
                (columns["size"], np.float64),
                (groups, np.int32),
            ]
            for part, (values, kind) in zip(parts, found, strict=True):
                part.append(np.array(values, dtype=kind))
        if not parts[0]:
            return np.zeros(0, dtype=np.int64)
        rows, scores, sizes, groups_ = (np.concatenate(part) for part in parts)
        usable = ~np.isnan(scores)
        if len(rows) and not usable.any():
            raise DataError(f"select: no row has a number in the column '{self.by}'; put a step before it that scores")
        if self.per and set(names) <= {""}:
            raise DataError(f"select: no row has a value in the column '{self.per}'")
        rows, scores, sizes, groups_ = (part[usable] for part in (rows, scores, sizes, groups_))
        return np.sort(rows[self._taken(scores, sizes, groups_)])

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        if self.order != "random":
            for value in columns.get(self.by, [None] * size(columns)):
                if not _is_number(value):
                    told = "no value" if value is None else f"found '{str(value)[:40]}'"
                    hint = nearest(self.by, columns) if self.by not in columns else ""
                    raise DataError(f"column '{self.by}' must hold a number, {told}{hint}")
        return kept(columns, flags(columns["row"], fitted))

    def _taken(self, scores: np.ndarray, sizes: np.ndarray, groups: np.ndarray) -> np.ndarray:
        budget = self._amount(float(sizes.sum()))
        try:
            return take_divided(scores, sizes, budget, groups, self.order, self.division)
        except DataError as error:
            raise DataError(f"select: {error} ({self._told()} asked for)") from None

    def _amount(self, total: float) -> float:
        if self.budget.share is not None:
            return self.budget.share * total
        return float(self.budget.documents or self.budget.characters or self.budget.tokens or 0)

    def _told(self) -> str:
        return ", ".join(f"{value:,} {name}" for name, value in self.budget.model_dump(exclude_none=True).items())

    def _size(self, text: str) -> float:
        if self.budget.documents is not None:
            return 1.0
        if self.budget.tokens is not None:
            return len(text.encode()) / self.bytes_per_token
        return float(len(text))

    def _scores(self, columns: Columns) -> list[float]:
        if self.order == "random":
            names = zip(column(columns, "source"), column(columns, "id"), strict=True)
            return [
                xxhash.xxh3_64_intdigest(f"{source}\x1f{name}".encode(), self.seed) / 2**64 for source, name in names
            ]
        values = columns.get(self.by, [None] * size(columns))
        return [float(value) if _is_number(value) else math.nan for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
