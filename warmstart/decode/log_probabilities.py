"""Logits of several models to log-probabilities that may be added: in fp32, over the same tokens, never NaN."""

from __future__ import annotations

import torch

from warmstart.errors import ModelError


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Log-softmax over the last dimension in fp32 (fp64 stays): a difference of two bf16 logits would be noise."""
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def normalised(scores: torch.Tensor) -> torch.Tensor:
    """Sums of log-probabilities, `(..., vocabulary)`, as log-probabilities.

    Raises:
        ModelError: at some place every token is excluded (-inf).
    """
    if bool(torch.isneginf(scores).all(dim=-1).any()):
        raise ModelError(
            "no token is possible under all of the composed models: each is excluded (-inf) by one of them"
        )
    return torch.log_softmax(scores, dim=-1)
