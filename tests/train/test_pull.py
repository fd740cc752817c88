"""The quadratic pull, and what happens to it when a model grows or shrinks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from warmstart.errors import ModelError
from warmstart.train.penalties.pull import fitted, gradients_of, packed, quadratic_pull, snapshot, unpacked


def test_it_is_the_sum_and_its_gradient_is_two_importance_distance() -> None:
    draw = torch.Generator().manual_seed(0)
    weights = {name: nn.Parameter(torch.randn(2, 3, generator=draw)) for name in "ab"}
    importance = {name: torch.rand(2, 3, generator=draw) for name in "ab"}
    anchor = {name: torch.randn(2, 3, generator=draw) for name in "ab"}
    pull = quadratic_pull(weights, importance, anchor)
    by_hand = sum(
        float(importance[n][i, j] * (weights[n].detach()[i, j] - anchor[n][i, j]) ** 2)
        for n in "ab"
        for i in range(2)
        for j in range(3)
    )
    assert pull.item() == pytest.approx(by_hand, rel=1e-5)
    pull.backward()
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, 2 * importance[name] * (weight.detach() - anchor[name]))


def test_nothing_at_the_anchor_and_nothing_for_what_is_new() -> None:
    weights = {"old": nn.Parameter(torch.randn(3)), "new": nn.Parameter(torch.randn(3))}
    pull = quadratic_pull(weights, {"old": torch.ones(3)}, {"old": snapshot(weights)["old"]})
    pull.backward()
    assert pull.item() == 0
    assert weights["old"].grad is not None
    assert (weights["old"].grad == 0).all()
    assert weights["new"].grad is None
    assert quadratic_pull(weights, {}, {}).item() == 0


def test_weights_may_grow_and_not_shrink() -> None:
    saved = {"w": torch.ones(2, 2), "frozen": torch.ones(5)}
    grown = fitted(saved, {"w": torch.zeros(3, 2), "new": torch.zeros(1)}, "ewc")
    assert grown["w"].tolist() == [[1, 1], [1, 1], [0, 0]]
    assert grown["frozen"].tolist() == [1] * 5
    assert set(grown) == {"w", "frozen"}
    for shape in ((1, 2), (2, 1), (2,), (3, 1)):
        with pytest.raises(ModelError, match=r"penalties ewc: the weight 'w' has the shape .* may grow, not shrink"):
            fitted(saved, {"w": torch.zeros(shape)}, "ewc")


def test_packed_and_unpacked() -> None:
    groups = {"a": {"x.y": torch.ones(1)}, "ab": {"x.y": torch.zeros(1), "z": torch.ones(2)}}
    flat = packed(groups)
    for group, members in groups.items():
        assert unpacked(flat, group, {}) == members


def test_a_weight_without_a_gradient_counts_as_zero() -> None:
    weights = {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.ones(1))}
    weights["a"].grad = torch.tensor([1.0, 2.0])
    found = gradients_of(weights)
    assert found["a"].tolist() == [1, 2]
    assert found["b"].tolist() == [0]
