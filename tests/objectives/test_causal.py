"""Next-token prediction: targets and loss."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from warmstart.objectives.blocks import token_loss
from warmstart.objectives.causal import Causal

ROW = {
    "tokens": np.array([11, 12, 13, 21, 22, 31]),
    "positions": np.array([0, 1, 2, 0, 1, 0]),
    "documents": np.array([0, 0, 0, 1, 1, 2]),
}
GENERATOR = np.random.default_rng(0)


def test_targets_stay_inside_a_document() -> None:
    joined = ROW | {"positions": np.arange(6), "documents": np.zeros(6, dtype=np.int64)}
    padded = ROW | {"documents": np.array([0, 0, 0, 1, -1, -1])}
    batch = Causal().collate([ROW, joined, padded], None, GENERATOR)
    assert set(batch) == {"input_ids", "position_ids", "labels"}  # never an attention mask
    assert all(tensor.dtype == torch.int64 and tensor.shape == (3, 6) for tensor in batch.values())
    assert batch["labels"].tolist() == [
        [12, 13, -100, 22, -100, -100],
        [12, 13, 21, 22, 31, -100],
        [12, 13, -100, -100, -100, -100],
    ]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 0]


def test_loss_is_the_mean_over_targets() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 40, requires_grad=True)
    labels = Causal().collate([ROW, ROW, ROW], None, GENERATOR)["labels"]
    labels[2] = -100
    loss = token_loss(logits, labels)
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.targets) == 6
    for row in range(2):
        alone = functional.cross_entropy(logits[row], labels[row])
        torch.testing.assert_close(loss.per_row[row], alone.detach())
    assert float(loss.per_row[2]) == 0.0
    assert not loss.per_row.requires_grad
    (ours,) = torch.autograd.grad(loss.total, logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)


def test_no_target_at_all_is_no_nan() -> None:
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss = token_loss(logits, torch.full((1, 3), -100))
    loss.total.backward()
    assert float(loss.total.detach()) == 0.0
    assert float(logits.grad.abs().max()) == 0.0


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(2, 8, 300).bfloat16()
    labels = torch.randint(0, 300, (2, 8))
    assert token_loss(logits, labels).total.dtype == torch.float32
    torch.testing.assert_close(token_loss(logits, labels).total, token_loss(logits.float(), labels).total)


def test_the_model_is_called_without_a_mask_or_a_cache() -> None:
    class Spy(nn.Module):
        def forward(self, **arguments: object) -> SimpleNamespace:
            self.arguments = arguments
            return SimpleNamespace(logits=torch.zeros(1, 6, 40))

    spy = Spy()
    Causal().loss(spy, Causal().collate([ROW], None, GENERATOR))
    assert set(spy.arguments) == {"input_ids", "position_ids", "use_cache"}
    assert spy.arguments["use_cache"] is False


@pytest.mark.parametrize("size", [1.0, 300.0])  # (300: the softmax of a float32 underflows)
def test_the_loss_and_its_gradient_are_pytorchs(size):
    logits = (torch.randn(2, 5, 7, dtype=torch.float64) * size).float().requires_grad_()
    labels = torch.randint(0, 7, (2, 5))
    labels[0, 1] = labels[1, 4] = -100
    loss = token_loss(logits, labels).total
    (ours,) = torch.autograd.grad(loss, logits)
    reference = functional.cross_entropy(logits.double().flatten(0, 1), labels.flatten(), ignore_index=-100)
    (theirs,) = torch.autograd.grad(reference, logits)
    torch.testing.assert_close(loss.double(), reference, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert ours[0, 1].abs().max() == 0


def test_the_gradient_can_be_taken_twice_from_one_forward_pass():
    logits, labels = torch.randn(1, 4, 6, requires_grad=True), torch.randint(0, 6, (1, 4))
    loss = token_loss(logits, labels).total
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(loss, logits)
    assert torch.equal(first, second)
