"""What the text objectives share: packed rows as tensors, and cross entropy over a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from warmstart.objectives import Loss, Row

NO_TARGET = -100


def stacked(rows: Sequence[Row], column: str) -> np.ndarray:
    """One column of packed rows: int64 `(batch, length)`."""
    return np.stack([row[column] for row in rows]).astype(np.int64, copy=False)


def context_of(rows: Sequence[Row]) -> np.ndarray:
    """Which tokens are never targets: bool `(batch, length)`. Sources without such tokens have no column for it."""
    return np.stack([row["context"] if "context" in row else np.zeros(len(row["tokens"]), bool) for row in rows])


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> Loss:
    """Cross entropy in float32, nats per target.

    Logits and labels already stand side by side, so that no shifted copy of the logits (the largest tensor
    of a step) is made; positions without a target cost their softmax and count for nothing.

    Args:
        logits: `(batch, length, vocabulary)`.
        labels: `(batch, length)` int64; -100 where there is no target.
    """
    flat = CrossEntropy.apply(logits.flatten(0, 1).float(), labels.flatten())
    has_target = labels != NO_TARGET
    sums = flat.view(labels.shape).sum(dim=1)
    in_row = has_target.sum(dim=1)
    targets = in_row.sum()
    return Loss(
        total=sums.sum() / targets.clamp(min=1),
        targets=targets,
        per_row=(sums / in_row.clamp(min=1)).detach(),
        logits=logits,
    )


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[label] for each row, 0 where there is no target; nats.

    The gradient, softmax(logits) less one at the label, is written as that: what PyTorch's own loss turns into when
    compiled compares every column of every row with the label, which costs a small model 3 % of its step.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`logits` `(rows, vocabulary)`, `labels` `(rows,)`; returns `(rows,)`."""
        has_target = labels != NO_TARGET
        index = torch.where(has_target, labels, 0).unsqueeze(1)
        log_probability = torch.log_softmax(logits, dim=1)
        ctx.save_for_backward(log_probability, index, has_target)
        return torch.where(has_target, -log_probability.gather(1, index).squeeze(1), 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        log_probability, index, has_target = ctx.saved_tensors
        weight = torch.where(has_target, gradient, 0.0).unsqueeze(1)
        return log_probability.exp().mul_(weight).scatter_add_(1, index, -weight), None


def first_position(model: nn.Module) -> int:
    """RoBERTa and its kin number positions from `padding_idx + 1`, as their position embedding tells."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0
