"""What the text objectives share: packed rows as tensors, and cross entropy over a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from warmstart.objectives import Loss, Row

NO_TARGET = -100


def stacked(rows: Sequence[Row], column: str) -> np.ndarray:
    """One column of packed rows: int64 `(batch, length)`."""
    return np.stack([row[column] for row in rows]).astype(np.int64, copy=False)


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> Loss:
    """Cross entropy in float32, nats per target.

    Logits and labels already stand side by side, so that no shifted copy of the logits (the largest tensor
    of a step) is made; positions without a target cost their softmax and count for nothing.

    Args:
        logits: `(batch, length, vocabulary)`.
        labels: `(batch, length)` int64; -100 where there is no target.
    """
    flat = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=NO_TARGET, reduction="none"
    )
    has_target = labels != NO_TARGET
    sums = flat.view(labels.shape).sum(dim=1)
    in_row = has_target.sum(dim=1)
    targets = in_row.sum()
    return Loss(
        total=sums.sum() / targets.clamp(min=1),
        targets=targets,
        per_row=(sums / in_row.clamp(min=1)).detach(),
    )


def first_position(model: nn.Module) -> int:
    """RoBERTa and its kin number positions from `padding_idx + 1`, as their position embedding tells."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0
