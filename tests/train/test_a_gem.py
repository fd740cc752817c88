"""A-GEM: the projection's inequalities, and what is remembered of each stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from continual import NOW, Point, ground_of
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from warmstart.train.gradients.a_gem import AGem, Episodes, project

VECTORS = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4)


def split(vector: list[float]) -> dict[str, torch.Tensor]:
    """One vector as two weights."""
    tensor = torch.tensor(vector)
    return {"a": tensor[:1].clone(), "b": tensor[1:].clone()}


def whole(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([parts["a"], parts["b"]]).double()


@given(VECTORS, VECTORS)
def test_no_step_against_the_reference(given_: list[float], reference_: list[float]) -> None:
    gradient, reference = split(given_), split(reference_)
    g, r = whole(gradient), whole(reference)
    changed = project(gradient, reference)
    after = whole(gradient)
    assert float(after @ r) >= -1e-6 * max(1.0, float(g.norm() * r.norm()))
    assert after.norm() <= g.norm() * (1 + 1e-6)
    if float(g @ r) >= 0 or not changed:
        assert torch.equal(after, g)
    else:  # only the part along the reference is gone
        torch.testing.assert_close(after, g - (g @ r) / (r @ r) * r, atol=1e-4, rtol=1e-4)


def test_a_reference_of_zero_changes_nothing() -> None:
    gradient = split([1.0, 2.0, 3.0, 4.0])
    assert not project(gradient, split([0.0] * 4))
    assert whole(gradient).tolist() == [1, 2, 3, 4]


def test_against_the_reference_by_hand() -> None:
    gradient = split([1.0, 0.0, 0.0, 0.0])
    assert project(gradient, split([-1.0, 1.0, 0.0, 0.0]))
    assert whole(gradient).tolist() == [0.5, 0.5, 0, 0]


def state_of(model: nn.Module, data: Any, **settings: Any) -> Episodes:
    made = AGem(**settings).start(ground_of(model, data))
    assert isinstance(made, Episodes)
    return made


def test_a_step_that_would_hurt_old_rows_does_not() -> None:
    model = Point([0.0, 0.0])
    state = state_of(model, [(-1.0, 1.0)])
    assert not state.active(NOW)
    state.finish()
    assert state.active(NOW)
    model.place.grad = torch.tensor([-1.0, 0.0], dtype=torch.float64)  # away from the old row
    state.before_update(NOW)
    assert model.place.grad is not None
    old = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert float(model.place.grad @ old) == pytest.approx(0, abs=1e-12)
    assert model.place.grad.tolist() == pytest.approx([-0.5, -0.5])
    with torch.no_grad():
        model.place.copy_(torch.tensor([-1.0, 1.0]))  # where the old loss is flat, nothing is asked
    model.place.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    state.before_update(NOW)
    assert model.place.grad.tolist() == [3, 4]


def test_every_stage_has_its_own_memory_and_the_same_share_of_the_batch() -> None:
    model = Point([0.0])
    state = state_of(model, [(float(n),) for n in range(20)], rows=5, batch=6)
    state.finish()
    for stage in (1, 2):
        saved, values = {name: tensor.clone() for name, tensor in state.tensors().items()}, state.values()
        state = state_of(model, [(100.0 * stage + n,) for n in range(20)], rows=5, batch=6)
        state.load(saved, values)
        state.next_stage()
        batch = state.aside(NOW)
        assert batch is not None
        assert np.unique(batch["x"].numpy() // 100, return_counts=True)[1].tolist() == [6 // stage] * stage
        again = state.aside(NOW)
        assert again is not None
        assert torch.equal(again["x"], batch["x"])
        state.finish()
    assert [len(memory) for memory in state.memories] == [5, 5, 5]
    assert [{int(row["x"][0]) // 100 for row in memory.rows} for memory in state.memories] == [{0}, {1}, {2}]


def test_the_docstrings_loop() -> None:
    model = Point([0.0, 0.0])
    (model.place.square().sum() - model.place[0]).backward()
    run_example(
        project,
        model=model,
        old_batch=torch.tensor([-1.0, 1.0]),
        loss_of=lambda batch: (model.place - batch).square().sum() / 2,
        torch=torch,
        project=project,
    )
    assert model.place.grad is not None
    assert model.place.grad.tolist() == pytest.approx([-0.5, -0.5])


def test_settings_that_are_none() -> None:
    for field in ("rows", "batch"):
        with pytest.raises(ValidationError, match=field):
            AGem.model_validate({field: 0})
