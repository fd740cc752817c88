"""Elastic weight consolidation: the Fisher diagonal, its pull, several stages as one pull, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from continual import NOW, Distance, Point, ground_of, take_step
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from warmstart.train.penalties.ewc import Consolidation, Ewc, mean_squares, merged
from warmstart.train.penalties.pull import quadratic_pull, snapshot

ROWS = ((1.0, 0.0), (3.0, 1.0), (0.0, 5.0), (2.0, 2.0))


def state_of(model: Point, rows: Any = ROWS, **settings: Any) -> Consolidation:
    made = Ewc(**settings).start(ground_of(model, rows))
    assert isinstance(made, Consolidation)
    return made


def pull_of(state: Consolidation, model: Point) -> torch.Tensor:
    batch = {"x": torch.zeros(1, 2, dtype=torch.float64)}
    extra = state.loss(batch, Distance().loss(model, batch), NOW)
    assert extra is not None
    return extra


def moved(model: Point, *place: float) -> Point:
    with torch.no_grad():
        model.place.copy_(torch.tensor(place, dtype=torch.float64))
    return model


def test_importance_is_the_mean_square_of_batch_gradients() -> None:
    model = Point([0.0, 0.0], [1.0, 2.0])
    state = state_of(model)
    state.finish()
    # batches of two rows: gradients are scale * (place - mean of the rows)
    expected = [(2.0**2 + 1.0**2) / 2, 4 * (0.5**2 + 3.5**2) / 2]
    assert state.importance["place"].tolist() == pytest.approx(expected)
    by_row = state_of(model, squares="row")
    by_row.finish()
    assert by_row.importance["place"].tolist() == pytest.approx([(1 + 9 + 0 + 4) / 4, 4 * (0 + 1 + 25 + 4) / 4])
    sampled = state_of(model, squares="row", batches=2)
    sampled.finish()
    assert sampled.importance["place"][0].item() in {(a + b) / 2 for a in (1, 9, 0, 4) for b in (1, 9, 0, 4)}


def test_measuring_leaves_everything_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    model.train()

    class Output:
        name = "output"

        def loss(self, given: nn.Module, batch: Any, extra: None) -> Any:
            assert not given.training
            return type("L", (), {"total": given(batch["x"].float()).square().mean()})

        loss_without_logits = loss

    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    weights, grads = snapshot(dict(model.named_parameters())), [p.grad.clone() for p in model.parameters()]
    moments = {p: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    random = torch.random.get_rng_state()
    made = Ewc().start(ground_of(model, ROWS, objective=Output()))
    made.finish()
    assert isinstance(made, Consolidation)
    assert all((f >= 0).all() for f in made.importance.values())
    assert any((f > 0).any() for f in made.importance.values())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name])
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert all(torch.equal(optimizer.state[p][k], v) for p, s in moments.items() for k, v in s.items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert model.training
    assert model[1].training


def test_nothing_at_the_anchor_and_finite_differences_beside_it() -> None:
    model = Point([0.5, -1.0])
    state = state_of(model, strength=0.3)
    assert not state.active(NOW)
    state.finish()
    assert state.active(NOW)
    pull = pull_of(state, model)
    pull.backward()
    assert pull.item() == 0
    assert model.place.grad is not None
    assert (model.place.grad == 0).all()
    importance, anchor = state.importance["place"], state.anchor["place"].clone()
    moved(model, 1.5, 2.0)
    model.place.grad = None
    pull_of(state, model).backward()
    torch.testing.assert_close(
        model.place.grad.float(), (2 * 0.3 * importance * (model.place - anchor)).detach().float()
    )
    for axis in range(2):
        ends = []
        for side in (1e-4, -1e-4):
            place = [1.5, 2.0]
            place[axis] += side
            ends.append(pull_of(state, moved(model, *place)).item())
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(float(model.place.grad[axis]), rel=1e-5)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-3, 3)), min_size=1, max_size=5), st.floats(-3, 3))
def test_many_pulls_are_one(pulls: list[tuple[float, float]], place: float) -> None:
    importance, anchor, constant = (torch.zeros(1, dtype=torch.float64) for _ in range(3))
    for more, there in pulls:
        pair = (torch.tensor([value], dtype=torch.float64) for value in (more, there))
        importance, anchor, apart = merged(importance, anchor, *pair)
        constant = constant + apart
    whole = float(importance * (place - anchor) ** 2 + constant)
    assert whole == pytest.approx(sum(f * (place - a) ** 2 for f, a in pulls), rel=1e-9, abs=1e-9)
    slope = float(2 * importance * (place - anchor))
    assert slope == pytest.approx(sum(2 * f * (place - a) for f, a in pulls), rel=1e-9, abs=1e-9)


def test_three_stages_pull_to_each_of_their_ends() -> None:
    model = Point([0.0, 0.0])
    state, ends = state_of(model, strength=0.7), []
    for number, place in enumerate([(0.0, 0.0), (1.0, -1.0), (2.0, 0.5)]):
        moved(model, *place)
        alone = state_of(model)
        alone.finish()
        ends.append((alone.importance["place"], alone.anchor["place"]))
        state.finish()
        if number == 1:  # saved and loaded in between
            saved, values = {k: t.clone() for k, t in state.tensors().items()}, state.values()
            state = state_of(model, strength=0.7)
            state.load(saved, values)
            state.next_stage()
    moved(model, -1.0, 4.0)
    pull = pull_of(state, model)
    expected = 0.7 * sum(float((f * (model.place.detach() - a) ** 2).sum()) for f, a in ends)
    assert pull.item() == pytest.approx(expected, rel=1e-5)


def test_online_keeps_the_last_end_and_lets_importance_decay() -> None:
    model = Point([0.0, 0.0])
    state = state_of(model, mode="online", decay=0.5)
    state.finish()
    first = state.importance["place"].clone()
    moved(model, 1.0, -1.0)
    alone = state_of(model)
    alone.finish()
    state.finish()
    torch.testing.assert_close(state.importance["place"], 0.5 * first + alone.importance["place"])
    assert state.anchor["place"].tolist() == [1.0, -1.0]
    assert state.constant == 0


def test_the_docstrings_loops() -> None:
    """Measure on one task, then train on another with the pull: as the part does it."""
    model = Point([0.5, -1.0])
    batches = [torch.tensor(ROWS[start : start + 2], dtype=torch.float64) for start in (0, 2)]

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return Distance().loss(model, {"x": batch}).total

    given = {"model": model, "loss_of": loss_of, "torch": torch, "snapshot": snapshot}
    found = run_example(mean_squares, mean_squares=mean_squares, batches=batches, **given)
    state = state_of(model, strength=0.3)
    state.finish()
    torch.testing.assert_close(found["importance"], state.importance)
    assert torch.equal(found["anchor"]["place"], state.anchor["place"])

    new = [torch.tensor([[9.0, 9.0]], dtype=torch.float64)] * 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given |= {"optimizer": optimizer, "importance": found["importance"], "new_batches": new}
    begin = model.place.detach().clone()
    run_example(quadratic_pull, quadratic_pull=quadratic_pull, **given)
    ours, model.place.data = model.place.detach().clone(), begin
    for batch in new:
        take_step(state, model, batch, 0.1)
    torch.testing.assert_close(model.place.detach(), ours)


def test_settings_that_are_none() -> None:
    for field, value in (("strength", -0.1), ("decay", 1.1), ("batches", 0), ("mode", "both"), ("squares", "token")):
        with pytest.raises(ValidationError, match=field):
            Ewc.model_validate({field: value})
