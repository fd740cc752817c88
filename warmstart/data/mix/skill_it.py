"""Skill-It: an online mixture that trains on what still teaches something.

A skill is a source such that training on it lowers the held-out loss on some sources, itself or others. A graph says
how much: A[i, j] > 0 where training on skill i helps skill j. After every evaluation ("round") the mixture is made
anew: skills get weight for feeding skills whose loss is still high, p_i ~ exp(eta * sum of A[i, j] * loss_j over the
last `window` rounds), so that prerequisites come first and what is learned fades out. It is one step of entropic
mirror descent on the mean loss, if each loss falls by the factor 1 - A[:, j] . p in a round.

The graph is given, or learned in short trials from the stage's starting weights, which cost a part of the budget: one
trial per skill (`approximate`), or k + k (k - 1) / 2 (`brute-force`). From weights that know nothing yet every trial
helps every skill; learn it from a model that knows the format, or expect a warning that the graph is full.

Two differences from the authors' code: a round here is an evaluation of the run (there, the window counts evaluations
of which several fall into one update), and losses are summed over the window also where only some skills are targets.

Source: "Skill-it! A Data-Driven Skills Framework for Understanding and Training Language Models", arXiv 2307.14430;
the relative form of the learned graph is that of the same authors' later Aioli.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from warmstart.errors import DataError

Mode = Literal["approximate", "brute-force"]
SPARSE, DENSE = 0.05, 0.95
Model = TypeVar("Model")


class SkillItMixer:
    """The mixture over training skills, round by round; a loop of one's own calls `update` after each evaluation.

    Args:
        graph: `(training skills, evaluation skills)`; how much training on one lowers the loss of the other.
        eta: how sharply the mixture follows the losses; 0 is uniform.
        window: how many rounds count; `None` multiplies the mixture by a factor each round instead of making it anew.
        normalise: "initial" divides each loss by the first one that was given, so that high-entropy skills are not
            favoured.

    Attributes:
        shares: `(training skills,)`, the mixture until the next update; at first that of losses of 1.

    Raises:
        DataError: a negative eta, a window below 1, or a graph that is no finite matrix.
    """

    def __init__(
        self,
        graph: np.ndarray,
        eta: float,
        window: int | None = 3,
        *,
        normalise: Literal["initial"] | None = None,
    ) -> None:
        self.graph = np.array(graph, dtype=np.float64)
        if self.graph.ndim != 2 or not self.graph.size or not np.isfinite(self.graph).all():
            raise DataError(f"skill-it: the graph must be a matrix of numbers, found the shape {self.graph.shape}")
        if not (np.isfinite(eta) and eta >= 0):
            raise DataError(f"skill-it: eta must be a number from 0, found {eta}")
        if window is not None and window < 1:
            raise DataError(f"skill-it: a window has at least one round, found {window}")
        if not self.graph.any():
            warnings.warn("skill-it: the graph has no edge at all; the mixture stays uniform", stacklevel=2)
        self.eta, self.window, self.normalise = eta, window, normalise
        self.initial: np.ndarray | None = None
        self.history: list[np.ndarray] = []  # the losses in the window
        self.total = np.zeros(self.graph.shape[1])  # without a window: the sum of all losses
        self.shares = self._shares(np.ones(self.graph.shape[1]))

    def begin(self, losses: Sequence[float] | np.ndarray) -> None:
        """The losses before the first step: what `normalise` divides by. They start no round."""
        self.initial = self._checked(losses)

    def update(self, losses: Sequence[float] | np.ndarray) -> np.ndarray:
        """The mixture `(training skills,)` after another round's losses `(evaluation skills,)`, nats.

        Raises:
            DataError: not one finite loss per evaluation skill.
        """
        found = self._checked(losses)
        if self.initial is None:
            self.initial = found
        if self.normalise == "initial":
            found = found / np.maximum(self.initial, 1e-12)
        if self.window is None:
            self.total = self.total + found
            self.shares = self._shares(self.total)
        else:
            self.history = [*self.history, found][-self.window :]
            self.shares = self._shares(np.sum(self.history, axis=0))
        return self.shares

    def _shares(self, losses: np.ndarray) -> np.ndarray:
        exponents = self.eta * (self.graph @ losses)
        # Far below the largest, exp would give 0, and a skill with no share at all could not come back.
        weights = np.exp(np.maximum(exponents - exponents.max(), -700.0))
        shares: np.ndarray = weights / weights.sum()
        return shares

    def _checked(self, losses: Sequence[float] | np.ndarray) -> np.ndarray:
        found = np.array(losses, dtype=np.float64)
        if found.shape != (self.graph.shape[1],):
            raise DataError(f"skill-it: expected {self.graph.shape[1]} losses, found the shape {found.shape}")
        if not np.isfinite(found).all():
            raise DataError(f"skill-it: a loss is not a number: {found.tolist()}")
        return found


def learn_graph(
    train: Callable[[dict[str, float], int], Model],
    evaluate: Callable[[Model | None], Mapping[str, float]],
    skills: Sequence[str],
    eval_skills: Sequence[str],
    steps: int,
    mode: Mode = "approximate",
    *,
    clip: bool = True,
) -> np.ndarray:
    """A graph of skills from short trainings: `(skills, eval_skills)`, relative falls of the loss.

    Args:
        train: trains a copy of the starting model for so many steps on these shares of the skills.
        evaluate: the held-out loss of each evaluation skill, of a trained model, or (`None`) of the starting one; that
            one is asked for last.
        mode: `approximate`: A[i, j] = (L_j - L_j after training on i) / L_j; one training per skill. `brute-force`:
            A[i, j] is by how much more the loss of j falls when half of its training is given to i (the diagonal as
            before); one training per pair more, and only where every evaluation skill is also trained on.
        clip: negative entries become 0; without, a skill that does harm is avoided.

    Raises:
        DataError: brute force for a skill that is not trained on; a loss that is not a positive number.
    """
    foreign = [name for name in eval_skills if name not in skills]
    if mode == "brute-force" and foreign:
        raise DataError(f"brute force needs every evaluation skill among the training skills; '{foreign[0]}' is not")
    alone = [evaluate(train({name: 1.0}, steps)) for name in skills]
    pairs: dict[frozenset[str], Mapping[str, float]] = {}
    if mode == "brute-force":
        for number, first in enumerate(skills):
            for second in skills[number + 1 :]:
                pairs[frozenset((first, second))] = evaluate(train({first: 0.5, second: 0.5}, steps))
    start = evaluate(None)
    graph = np.zeros((len(skills), len(eval_skills)))
    for row, helper in enumerate(skills):
        for column, skill in enumerate(eval_skills):
            if mode == "approximate" or helper == skill:
                fall = start[skill] - alone[row][skill]
            else:
                fall = alone[skills.index(skill)][skill] - pairs[frozenset((helper, skill))][skill]
            graph[row, column] = fall / start[skill] if start[skill] > 0 else np.nan
    if not np.isfinite(graph).all():
        raise DataError(f"skill-it: the graph cannot be learned: losses at the start are {dict(start)}")
    return np.maximum(graph, 0.0) if clip else graph


def stratified(graph: np.ndarray, targets: Sequence[int] = ()) -> np.ndarray:
    """The baseline: all training skills with an edge to another one, and the targets, at equal shares.

    Args:
        graph: `(training skills, evaluation skills)`; where it is square, the diagonal is no edge to another skill.
        targets: numbers of training skills that are wanted in any case.

    Raises:
        DataError: no skill is left.
    """
    chosen = (np.asarray(graph) * _others(np.asarray(graph)) > 0).any(axis=1)
    chosen[list(targets)] = True
    if not chosen.any():
        raise DataError("stratified: no skill has an edge to another one, and there is no target")
    shares: np.ndarray = chosen / chosen.sum()
    return shares


def graph_report(graph: np.ndarray, own: np.ndarray | None = None) -> float:
    """The density of a graph: the share of positive entries among those between different skills.

    Warns below 5 % (skills hardly help each other) and above 95 % (all help all): in both cases there is little to
    gain over equal shares.

    Args:
        own: bool, like `graph`; the entries of a skill with itself; default: the diagonal where it is square.
    """
    graph = np.asarray(graph)
    others = _others(graph) if own is None else ~own
    if not others.any():
        return float("nan")
    density = float((graph[others] > 0).mean())
    if not SPARSE <= density <= DENSE:
        what = "hardly any skill helps another" if density < SPARSE else "nearly every skill helps every other"
        warnings.warn(
            f"skill-it: {density:.0%} of the graph's edges are there: {what}; little is to be gained over equal shares",
            stacklevel=2,
        )
    return density


def _others(graph: np.ndarray) -> np.ndarray:
    """The entries between different skills."""
    square = graph.shape[0] == graph.shape[1]
    return ~np.eye(graph.shape[0], dtype=bool) if square else np.ones(graph.shape, dtype=bool)
