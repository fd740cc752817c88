"""What the objectives that detect replaced tokens share: the model's opinion of each token, its loss, and substitutes.

A detector reads a corrupted text and says of every token whether it is the original one. It needs no vocabulary-sized
output, so that a step costs less than one of masked language modelling, and it learns from every token instead of the
15 % that are hidden. What it does not get is a model that can fill in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.objectives import Loss
from warmstart.objectives.bidirectional import Vocabulary
from warmstart.objectives.blocks import NO_TARGET

ORIGINAL, REPLACED = 0, 1


def detection_logits(output: Any) -> torch.Tensor:
    """The log-odds that each token was replaced, float32 `(batch, length)`, from a model's output: its logits
    `(batch, length)`, or of the two classes `(batch, length, 2)`.

    Raises:
        ModelError: the model has no head with two classes.
    """
    logits = output.logits if hasattr(output, "logits") else None
    if logits is not None and logits.dim() == 2:
        return logits.float()
    if logits is not None and logits.dim() == 3 and logits.shape[2] == 2:
        return logits[..., REPLACED].float() - logits[..., ORIGINAL].float()
    found = "has none" if logits is None else f"gives {tuple(logits.shape)} for (batch, length)"
    raise ModelError(f"detecting tokens needs a head with two classes per token; the model {found}")


def detection_loss(logits: torch.Tensor, labels: torch.Tensor) -> Loss:
    """Mean binary cross entropy over all tokens with a label, nats; `detected` is the share of the replaced ones found.

    Args:
        logits: `(batch, length)`, log-odds that a token was replaced.
        labels: `(batch, length)` int64: 1 replaced, 0 original, -100 no target.
    """
    has_target = labels != NO_TARGET
    replaced = labels == REPLACED
    each = functional.binary_cross_entropy_with_logits(logits, replaced.to(logits.dtype), reduction="none")
    sums = torch.where(has_target, each, 0.0).sum(dim=1)
    in_row = has_target.sum(dim=1)
    targets = in_row.sum()
    said = logits.detach() > 0
    return Loss(
        total=sums.sum() / targets.clamp(min=1),
        targets=targets,
        parts={"detected": (said & replaced).sum() / replaced.sum().clamp(min=1)},
        per_row=(sums / in_row.clamp(min=1)).detach(),
        right=((said == replaced) & has_target).sum(),
    )


def detection_labels(chosen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 where a token was chosen, 0 at the other targets, -100 elsewhere: int64 `(batch, length)`."""
    return np.where(targets, chosen.astype(np.int64), NO_TARGET)


def random_tokens(
    tokens: np.ndarray, vocabulary: Vocabulary, generator: np.random.Generator, exclude_same: bool = False
) -> np.ndarray:
    """An ordinary token for each place, all equally likely; with `exclude_same` never the one that is there.

    Args:
        tokens: `(batch, length)`; the result is alike.
    """
    drawn = generator.integers(len(vocabulary.choices) - exclude_same, size=tokens.shape)
    if exclude_same:
        places = np.searchsorted(vocabulary.choices, tokens)
        drawn += drawn >= places  # step over the token's own place among the choices
    return vocabulary.choices[drawn]
