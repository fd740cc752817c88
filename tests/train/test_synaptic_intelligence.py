"""Synaptic intelligence: the path's sum is the loss's fall, importances, and stages after each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from continual import NOW, Distance, Point, ground_of, take_step
from docstring_examples import run_example
from pydantic import ValidationError

from warmstart.train.penalties.pull import gradients_of, snapshot
from warmstart.train.penalties.synaptic_intelligence import Synapses, SynapticIntelligence, add_to_path

ORIGIN = torch.zeros(1, 3, dtype=torch.float64)


def state_of(model: Point, **settings: Any) -> Synapses:
    made = SynapticIntelligence(**settings).start(ground_of(model))
    assert isinstance(made, Synapses)
    return made


def test_on_a_quadratic_the_path_is_the_fall_of_the_loss() -> None:
    scale = [1.0, 3.0, 0.5]
    model = Point([1.0, -2.0, 0.3], scale)
    state = state_of(model)
    first = Distance().loss(model, {"x": ORIGIN}).total.item()
    begin = model.place.detach().clone()
    for _ in range(300):
        take_step(state, model, ORIGIN, 0.002)
    fall = first - Distance().loss(model, {"x": ORIGIN}).total.item()
    assert fall > 0.5 * first
    assert -float(state.path["place"].sum()) == pytest.approx(fall, rel=0.01)
    # and weight by weight: each has its own part of the loss
    parts = torch.tensor(scale) / 2 * (begin.square() - model.place.detach().square())
    torch.testing.assert_close(-state.path["place"], parts.double(), rtol=0.01, atol=0)


def test_importance_by_hand_over_two_stages() -> None:
    model = Point([1.0, -2.0, 0.3])
    state = state_of(model, damping=0.1, ceiling=3.0)
    begin = model.place.detach().clone()
    for _ in range(20):
        take_step(state, model, ORIGIN, 0.1)
    path, end = state.path["place"].clone(), model.place.detach().clone()
    state.finish()
    total = path / ((end - begin) ** 2 + 0.1)
    torch.testing.assert_close(state.importance["place"], (-total).clamp(0, 3.0))
    assert torch.equal(state.anchor["place"], end)

    saved = {name: tensor.clone() for name, tensor in state.tensors().items()}
    state = state_of(model, damping=0.1, ceiling=3.0)
    state.load(saved, {})
    state.next_stage()
    assert (state.path["place"] == 0).all()  # the path begins anew, the total does not
    assert torch.equal(state.begin["place"], end)
    for _ in range(5):
        take_step(state, model, ORIGIN + 1, 0.1)
    path = state.path["place"].clone()
    state.finish()
    total = total + path / ((model.place.detach() - end) ** 2 + 0.1)
    torch.testing.assert_close(state.importance["place"], (-total).clamp(0, 3.0))


def test_the_ceiling_and_what_is_below_zero() -> None:
    for below_zero in (False, True):
        model = Point([0.0, 0.0, 0.0])
        state = state_of(model, below_zero=below_zero)
        state.path["place"] = torch.tensor([-5.0, 5.0, -0.00001], dtype=torch.float64)
        state.finish()
        lowest = -50.0 if below_zero else 0.0
        assert state.importance["place"].tolist() == pytest.approx([0.001, lowest, 0.0001])


def test_the_pull_has_a_half_and_begins_with_the_second_stage() -> None:
    model = Point([1.0, 0.0, 0.0])
    state = state_of(model, strength=10.0)
    batch = {"x": ORIGIN}
    assert state.loss(batch, Distance().loss(model, batch), NOW) is None
    state.importance, state.anchor = {"place": torch.tensor([0.5, 1.0, 1.0])}, {"place": torch.zeros(3)}
    extra = state.loss(batch, Distance().loss(model, batch), NOW)
    assert extra is not None
    assert extra.item() == pytest.approx(10 / 2 * 0.5)


def test_the_docstrings_loop() -> None:
    """With Adam, whose movement is not the gradient's: the path is still the fall of the loss."""
    model = Point([1.0, -2.0, 0.3])

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return Distance().loss(model, {"x": batch}).total

    before = loss_of(ORIGIN).item()
    names = run_example(
        add_to_path,
        model=model,
        loss_of=loss_of,
        batches=[ORIGIN] * 200,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.001),
        torch=torch,
        snapshot=snapshot,
        gradients_of=gradients_of,
        add_to_path=add_to_path,
    )
    assert before - loss_of(ORIGIN).item() > 0.1
    assert -float(names["path"]["place"].sum()) == pytest.approx(before - loss_of(ORIGIN).item(), rel=0.01)


def test_settings_that_are_none() -> None:
    for field, value in (("strength", -1), ("damping", 0), ("ceiling", 0)):
        with pytest.raises(ValidationError, match=field):
            SynapticIntelligence.model_validate({field: value})
