"""Row steps: what curation and rewriting are made of, and how a chain of them runs over a batch of rows.

A step is a function of a *batch of rows* as columns (`dict[str, list]`), the form that
`datasets.Dataset.map(batched=True)` and `ray.data.Dataset.map_batches` take. What it does with a row depends on that
row, its own settings and what `fit` found, never on the other rows of the batch: so the same step gives the same rows
in one process, in many, and on a Ray cluster, whatever the batches are.

A step that must see everything first (duplicates, balancing, a classifier) does so in two halves: `measure` looks at
one batch and runs anywhere; `fit` gets what was measured, in the order of reading, in one process. A step may also
offer a `stream`: the same result in a single pass of one process.

Every row has `text`, `source` (label), `id` (stable) and `row` (its number in the order of reading, unique in the
stage), and whatever columns its source has (`url`, `year`, ...). A source that lacks a column gives `None` there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from warmstart.data.where import Where, matches
from warmstart.errors import DataError, UserError, nearest
from warmstart.part import Part

Columns = dict[str, list[Any]]
Stream = Callable[[Columns], Columns]


class Counted(Columns):
    """Columns with whole numbers beside them that go into the counts of the run: why rows were dropped, FLOPs.

    A step's `apply` may return it. The number `name` of step `some-step` is counted as `some_step_name`; `flops` is
    what the step computed with a model. A number belongs to the rows of the batch one by one, like the rows themselves,
    so that sums do not depend on what the batches were.
    """

    def __init__(self, columns: Columns, counts: Mapping[str, int]) -> None:
        super().__init__(columns)
        self.counts = Counter(counts)


class RowStep(Part):
    """The contract of `curate` and `rewrite`."""

    only: Where | None = Field(
        None,
        description="Only rows with these values go through the step, e.g. `{source: docs}`; the others stay.",
    )
    fits: ClassVar[bool] = False
    """Whether a pass over all rows (`measure`, `fit`) must come before `apply`."""

    def measure(self, columns: Columns) -> Columns:
        """What `fit` must know of a batch, as columns again (of any length; numbers, strings, bytes, lists of them)."""
        raise NotImplementedError

    def fit(self, measured: Iterator[Columns]) -> Any:
        """What `apply` must know of all rows. `measured` comes in the order of reading; the result is never saved."""
        raise NotImplementedError

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        """The rows that stay, changed or not. Neither `columns` nor its lists may be changed in place.

        Raises:
            DataError: a row cannot be used; with `on_error: skip` the rest of the batch is kept.
        """
        raise NotImplementedError

    def stream(self) -> Stream | None:
        """The step as one pass over batches that come in order; `None` where `fit` must come first."""
        return None if self.fits else self.apply

    def key(self) -> Any:
        """All that decides what the step does, as a JSON value: its settings, and digests of what these name (files,
        models)."""
        return self.model_dump(mode="json")


def measured(step: RowStep, columns: Columns) -> Columns | None:
    """What a step's `fit` must know of a batch; None where none of its rows goes through the step."""
    if step.only is None:
        return step.measure(columns)
    inside = matches(columns, step.only)
    return step.measure(kept(columns, inside)) if any(inside) else None


def limited(function: Stream, only: dict[str, Any] | None) -> Stream:
    """The function of a step, applied to the rows that go through it; the others stay, in their places."""
    return function if only is None else partial(_limited, function, only)


def _limited(function: Stream, only: dict[str, Any], columns: Columns) -> Columns:
    inside = matches(columns, only)
    if not any(inside):
        return columns
    done = function(kept(columns, inside))
    both = joined([kept(columns, [not flag for flag in inside]), done])
    merged = chosen(both, sorted(range(size(both)), key=lambda row: both["row"][row]))
    return Counted(merged, done.counts) if isinstance(done, Counted) else merged


def size(columns: Columns) -> int:
    """How many rows there are."""
    return len(next(iter(columns.values()))) if columns else 0


def chosen(columns: Columns, rows: list[int]) -> Columns:
    """Some rows of a batch, in the order given."""
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def kept(columns: Columns, keep: list[bool]) -> Columns:
    """The rows whose flag is set."""
    return chosen(columns, [row for row, flag in enumerate(keep) if flag])


def joined(batches: list[Columns]) -> Columns:
    """Batches one after another; a column that one of them lacks is `None` there."""
    names = list(dict.fromkeys(name for batch in batches for name in batch))
    return {name: [v for batch in batches for v in batch.get(name, [None] * size(batch))] for name in names}


def column(columns: Columns, name: str) -> list[Any]:
    """A column that a step needs.

    Raises:
        DataError: the rows have no such column.
    """
    if name not in columns:
        raise DataError(f"there is no column '{name}'{nearest(name, columns)}; columns: {', '.join(list(columns)[:8])}")
    return columns[name]


def whole_texts(columns: Columns) -> list[str]:
    """Each row's text after the context that its source gave it (a question before its answer): what makes a row the
    same as another, or belong to one side of the split."""
    contexts = columns.get("context", [None] * size(columns))
    return [(context or "") + text for context, text in zip(contexts, columns["text"], strict=True)]


@dataclass
class Outcome:
    """What a chain made of a batch: the rows, how many came and went at each step, and what was skipped."""

    columns: Columns
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)


@dataclass
class Chain:
    """Steps one after another, each with its name in counts and the function that it has become."""

    steps: list[tuple[str, Stream]]
    skip: bool = False

    def __call__(self, columns: Columns) -> Outcome:
        """`counts` has `in_<step>`, `out_<step>`, where rows were skipped `skipped_<step>`, and what the step counted.

        Raises:
            DataError: a step failed on a row, and rows are not skipped; the message names the step and the row.
        """
        outcome = Outcome(columns)
        for name, function in self.steps:
            outcome.counts[f"in_{name}"] += size(outcome.columns)
            outcome.columns = self._run(name, function, outcome.columns, outcome)
            outcome.counts[f"out_{name}"] += size(outcome.columns)
        return outcome

    def _run(self, name: str, function: Stream, columns: Columns, outcome: Outcome) -> Columns:
        try:
            found = function(columns)
        except Exception as error:
            if isinstance(error, UserError) and not isinstance(error, DataError):
                raise  # a missing library, a model that cannot be loaded: no row's fault
            if size(columns) > 1:  # whose fault is it? Rows do not depend on each other, so ask them one by one
                single = (self._run(name, function, chosen(columns, [r]), outcome) for r in range(size(columns)))
                return joined([one for one in single if size(one)]) or {key: [] for key in columns}
            told = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            text = f"{_row_name(columns)}: step '{name.replace('_', '-')}': {told}"
            if not self.skip:
                raise DataError(text) from error
            outcome.counts[f"skipped_{name}"] += 1
            outcome.skipped.append(text)
            return {key: [] for key in columns}
        if isinstance(found, Counted):
            outcome.counts.update({f"{name}_{what}": number for what, number in found.counts.items()})
        return found


def _row_name(columns: Columns) -> str:
    source, identity = columns.get("source", ["?"])[0], columns.get("id", ["?"])[0]
    return f"source '{source}', row {identity}"


def step_names(steps: list[RowStep]) -> list[str]:
    """One name per step for counts, e.g. `exact_duplicates`; the second of a name gets `_2`."""
    names: list[str] = []
    for step in steps:
        name = step.name.replace("-", "_")
        same = sum(other.name == step.name for other in steps[: len(names)])
        names.append(f"{name}_{same + 1}" if same else name)
    return names
