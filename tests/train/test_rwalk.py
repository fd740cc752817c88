"""RWalk against a loop written by hand; its importance's bounds; the gradient without a second pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from continual import Point, ground_of, take_step
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.train.penalties.pull import quadratic_pull, snapshot
from warmstart.train.penalties.rwalk import EPSILON, RWalk, Walk, walk_importance

RATE = 0.05
SCALE = np.array([1.0, 4.0, 0.2])


def state_of(model: Point, **settings: Any) -> Walk:
    made = RWalk(**settings).start(ground_of(model))
    assert isinstance(made, Walk)
    return made


class ByHand:
    """RWalk on a quadratic loss, in NumPy, with the gradient of the loss alone (a second pass, so to speak)."""

    def __init__(self, place: list[float], strength: float) -> None:
        self.place, self.strength = np.array(place), strength
        self.fisher, self.score = np.zeros(3), None
        self.importance, self.anchor = np.zeros(3), np.zeros(3)

    def stage(self, target: float, steps: int) -> None:
        fall, walked, checkpoint = np.zeros(3), np.zeros(3), self.place.copy()
        for step in range(1, steps + 1):
            gradient = SCALE * (self.place - target)
            self.fisher = 0.9 * gradient**2 + 0.1 * self.fisher
            before = self.place.copy()
            pull = 2 * self.strength * self.importance * (self.place - self.anchor)
            self.place = self.place - RATE * (gradient + pull)
            fall -= gradient * (self.place - before)
            if step % 2 == 0:
                walked += fall / (0.5 * self.fisher * (self.place - checkpoint) ** 2 + EPSILON)
                fall, checkpoint = np.zeros(3), self.place.copy()
        self.score = walked if self.score is None else (self.score + walked) / 2
        self.importance = self.fisher / self.fisher.max() + np.maximum(self.score, 0) / self.score.max()
        self.anchor = self.place.copy()


def test_three_stages_like_a_loop_by_hand() -> None:
    start = [1.0, -2.0, 0.5]
    model = Point(start, list(SCALE))
    state, hand = state_of(model, strength=0.1), ByHand(start, 0.1)
    for target, steps in ((0.0, 10), (1.0, 7), (-1.0, 6)):  # an odd number of steps: the last fall is not counted
        rows = torch.full((2, 3), target, dtype=torch.float64)
        for _ in range(steps):
            take_step(state, model, rows, RATE)
        hand.stage(target, steps)
        state.finish()
        np.testing.assert_allclose(model.place.detach().numpy(), hand.place, rtol=1e-9)
        np.testing.assert_allclose(state.fisher["place"].numpy(), hand.fisher, rtol=1e-6)
        np.testing.assert_allclose(state.score["place"].numpy(), hand.score, rtol=1e-6)
        np.testing.assert_allclose(state.importance["place"].numpy(), hand.importance, rtol=1e-6)
        saved, values = {name: tensor.clone() for name, tensor in state.tensors().items()}, state.values()
        state = state_of(model, strength=0.1)
        state.load(saved, values)
        state.next_stage()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=6))
def test_importance_lies_between_0_and_2(found: list[tuple[float, float]]) -> None:
    fisher = {str(n): torch.tensor([f]) for n, (f, _) in enumerate(found)}
    score = {str(n): torch.tensor([s]) for n, (_, s) in enumerate(found)}
    importance = torch.cat(list(walk_importance(fisher, score).values()))
    assert (importance >= 0).all()
    assert (importance <= 2).all()
    assert importance.isfinite().all()


def test_scores_halve_when_the_second_stage_brings_nothing() -> None:
    model = Point([1.0, -2.0, 0.5])
    state = state_of(model)
    for _ in range(4):
        take_step(state, model, torch.zeros(1, 3, dtype=torch.float64), RATE)
    state.finish()
    first = state.score["place"].clone()
    state.next_stage()
    state.finish()
    torch.testing.assert_close(state.score["place"], first / 2)


def test_the_docstrings_loop() -> None:
    model = Point([1.0, -2.0, 0.5])
    weights = dict(model.named_parameters())
    anchor = {"place": snapshot(weights)["place"] - 1}
    names = run_example(
        walk_importance,
        fisher={"place": torch.tensor([1.0, 2.0, 4.0])},
        score={"place": torch.tensor([-1.0, 2.0, 1.0])},
        weights=weights,
        anchor=anchor,
        batch=None,
        loss_of=lambda _: 5.0,
        walk_importance=walk_importance,
        quadratic_pull=quadratic_pull,
    )
    assert names["importance"]["place"].tolist() == [0.25, 1.5, 1.5]
    assert names["loss"].item() == pytest.approx(5.0 + 0.1 * 3.25)


def test_settings_that_are_none() -> None:
    for field, value in (("strength", -1), ("share", 0), ("share", 1.1), ("every", 0)):
        with pytest.raises(ValidationError, match=field):
            RWalk.model_validate({field: value})
