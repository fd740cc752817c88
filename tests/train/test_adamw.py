"""Which weights decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from warmstart.errors import ModelError
from warmstart.train.optimizers.adamw import AdamW


def test_matrices_decay_and_vectors_do_not() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    nn.init.ones_(model[0].bias)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = AdamW(weight_decay=0.1).start(model, 1.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["0.weight"], 0.9 * before["0.weight"])
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name], before[name])


def test_frozen_weights_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = AdamW().start(model, 1.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ModelError, match="every weight of the model is frozen"):
        AdamW().start(nn.Linear(2, 2).requires_grad_(False), 1.0)
