"""A score for texts that are hard, yet learnable: the median loss of tokens that a small model at least thinks of.

A token counts with its loss where it is among the k tokens that the model finds likeliest, and with 0 elsewhere; a
text's score is the median over its tokens. What the model knows by heart scores near 0, and so does noise, whose tokens
it would never have thought of: a high score needs text that is uncertain but not strange. Selecting by the loss alone
would take the noise first. With `outside: drop` tokens outside the k are left out instead of counting 0 (then noise
scores high: the paper's text, as far as we know it, multiplies by the mask).

The price is one forward pass of the small model over every text, counted as `learnable_loss_flops`.

Source: the selection of SALT_DS in "A Little Help Goes a Long Way: Efficient LLM Training by Leveraging Small LMs"
(arXiv 2410.18779), by an early checkpoint of the small model.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from warmstart.data.curate import Curation
from warmstart.data.curate.model_loss import SHORTEST, folder_digest, scorer_of
from warmstart.data.steps import Columns, Counted, column
from warmstart.named_models import ModelName


def learnable_loss(losses: np.ndarray, ranks: np.ndarray, k: int, outside: Literal["zero", "drop"] = "zero") -> float:
    """The score of one text, nats.

    Args:
        losses: of each token, `(tokens,)`.
        ranks: how many tokens the model finds likelier than the right one, `(tokens,)`; below `k` it is inside.

    Example:
        >>> learnable_loss(np.array([0.1, 2.0, 9.0]), np.array([0, 3, 500]), k=10)
        0.1
    """
    inside = ranks < k
    if outside == "drop":
        return float(np.median(losses[inside])) if inside.any() else 0.0
    return float(np.median(np.where(inside, losses, 0.0)))


class LearnableLoss(Curation):
    """Writes into `score` how hard a text is for a small causal model, strange tokens counting nothing; nats.

    Every process that runs it holds the model.
    """

    type: Literal["learnable-loss"] = "learnable-loss"
    model: ModelName = Field(
        description="A model folder (with its tokenizer), a hub id, or a study source: early checkpoints serve best."
    )
    k: int = Field(10, ge=1, description="A token is learnable where it is among the k likeliest.")
    outside: Literal["zero", "drop"] = Field("zero", description="What other tokens count: 0, or not at all.")
    length: int = Field(512, ge=SHORTEST, description="Longer texts are scored in windows of so many tokens.")
    batch_size: int = Field(8, ge=1, description="Windows per forward pass.")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def key(self) -> Any:
        return [self.model_dump(mode="json", exclude={"model", "device"}), folder_digest(self.model)]

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        scorer = scorer_of(self.model, self.length, self.batch_size, self.device, folder_digest(self.model))
        found, flops = scorer.losses_and_ranks(column(columns, "text"))
        scores = [learnable_loss(losses, ranks, self.k, self.outside) for losses, ranks in found]
        return Counted({**columns, "score": scores}, {"flops": flops})
