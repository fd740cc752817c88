"""Continual learning over time: what a stream of experiences left behind, from one matrix of scores.

`matrix[k][j]` is the score on experience j's held-out set after training on experience k, in the order of the stream.
Forgetting has two usual definitions, and both are here: against what was reached right after an experience, and against
the best that was ever reached. Backward transfer is the first with the other sign; forward transfer is what an
experience's set gained before its turn. Every number says how much better or worse in the score's own unit, so that the
functions are told which way the score improves.

Source: the definitions of "Gradient Episodic Memory for Continual Learning" (arXiv 1706.08840; transfer) and
"Riemannian Walk for Incremental Learning" (arXiv 1801.10112; forgetting from the best); the first definition of
forgetting as in "On the Usage of Continual Learning for Out-of-Distribution Generalization in Pre-trained Language
Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from warmstart.errors import DataError, nearest
from warmstart.evaluate import Evaluator, Subject

Matrix = Sequence[Sequence[float]]
Better = Literal["lower", "higher"]


def forgotten(matrix: Matrix, better: Better = "higher") -> list[float]:
    """How much worse each earlier experience is now than right after it; negative: better since. For the last: nothing.

    Args:
        matrix: `matrix[k][j]`: after experience k, on experience j; a row for each experience that is over.

    Raises:
        ValueError: the matrix has no rows, or rows shorter than their number.

    Example:
        Accuracies after a first and a second experience::

            lost = forgotten([[0.9, 0.1], [0.6, 0.8]])  # [0.3]: 0.9 right after the first experience, 0.6 now
    """
    _check(matrix)
    last = matrix[-1]
    return [_worse(last[j], matrix[j][j], better) for j in range(len(matrix) - 1)]


def forgotten_from_best(matrix: Matrix, better: Better = "higher") -> list[float]:
    """How much worse each earlier experience is now than it ever was before the last one; as `forgotten`."""
    _check(matrix)
    best = max if better == "higher" else min
    return [_worse(matrix[-1][j], best(row[j] for row in matrix[:-1]), better) for j in range(len(matrix) - 1)]


def backward_transfer(matrix: Matrix, better: Better = "higher") -> float:
    """Mean gain of earlier experiences since their own turn: the mean of `forgotten` with the other sign.

    Raises:
        ValueError: fewer than two experiences.
    """
    lost = forgotten(matrix, better)
    if not lost:
        raise ValueError("backward transfer needs two experiences")
    return -sum(lost) / len(lost)


def forward_transfer(matrix: Matrix, start: Sequence[float], better: Better = "higher") -> float:
    """Mean gain of each experience but the first over the stream's beginning, just before its own turn.

    Args:
        start: the scores before the stream.

    Raises:
        ValueError: fewer than two experiences.
    """
    _check(matrix)
    if len(matrix) < 2:
        raise ValueError("forward transfer needs two experiences")
    gains = [_worse(start[j], matrix[j - 1][j], better) for j in range(1, len(matrix))]
    return sum(gains) / len(gains)


def _worse(now: float, then: float, better: Better) -> float:
    return then - now if better == "higher" else now - then


def _check(matrix: Matrix) -> None:
    if not matrix:
        raise ValueError("the matrix has no rows")
    if any(len(row) < len(matrix) for row in matrix):
        raise ValueError(f"after {len(matrix)} experiences every row needs a score for each of them")


class Stream(Evaluator):
    """`stream/<of>` (mean over all experiences' sets) and, below it, `/seen` (over those that began), `/forgetting`,
    `/forgetting_from_best`, `/backward_transfer`, `/forward_transfer` (means over experiences, from the second on).

    Each stage of the recipe is one experience. It reads what earlier evaluators measured, so that it stands after them.
    """

    type: Literal["stream"] = "stream"
    sets: Annotated[list[str], Field(min_length=2)] = Field(
        description="The experiences' sets of evaluate.also, in the order of the stream."
    )
    of: str = Field("loss", description="Which metric of the sets: `<set>/<of>`.")
    better: Better = Field("lower", description="Which way it improves.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        rows = [self._row(values) for values in [*subject.history, subject.values]]
        start, matrix = rows[0], (rows[1:] if subject.history else rows)[: len(self.sets)]
        matrix[-1] = rows[-1]
        name = f"stream/{self.of}"
        found = {name: _mean(rows[-1]), f"{name}/seen": _mean(rows[-1][: len(matrix)])}
        if len(matrix) > 1:
            found[f"{name}/forgetting"] = _mean(forgotten(matrix, self.better))
            found[f"{name}/forgetting_from_best"] = _mean(forgotten_from_best(matrix, self.better))
            found[f"{name}/backward_transfer"] = backward_transfer(matrix, self.better)
            found[f"{name}/forward_transfer"] = forward_transfer(matrix, start, self.better)
        return found

    def _row(self, values: dict[str, float]) -> list[float]:
        for name in self.sets:
            wanted = f"{name}/{self.of}"
            if wanted not in values:
                raise DataError(
                    f"evaluator stream: '{wanted}' is not measured{nearest(wanted, values)}; give the set in "
                    "evaluate.also of every stage, and this evaluator after the one that measures it"
                )
        return [values[f"{name}/{self.of}"] for name in self.sets]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
