"""Starbucks representation learning (SRL): one encoder trained to be good at a short fixed list of sizes.

At every step the ranking loss is taken at all sizes, each a layer and the first few dimensions, and added up; every
smaller size is also pulled towards the scores of the whole model, which get no gradient from that. One forward pass
gives all layers, so that a step costs hardly more than plain contrastive training. The price: sizes beside the list are
not trained, and the whole model gives up a little.

This is the form that the official code has for retrieval; its defaults there are CLS pooling, dot products without
normalisation, temperature 1 and kl_weight 1. For sentence similarity the code divides differently: vectors are
normalised after they are cut (`normalise: cut`, a temperature of 0.05), which is here too, and the divergence is one
over the *dimensions* of a vector, which depends on the basis and is not.

Source: S. Zhuang et al., "Starbucks: Improved Training for 2D Matryoshka Embeddings" (arXiv 2410.13230), and
ielab/Starbucks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from warmstart.objectives import Batch, Loss, Row
from warmstart.objectives.embeddings import (
    EmbeddingObjective,
    Normalise,
    Pooling,
    loss_of_rows,
    pair_scores,
    ranking_loss,
)
from warmstart.objectives.sizes import OfSizes, size_name


def score_divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """KL(softmax(teacher) || softmax(student)) of each query's scores, nats, `(rows,)`; none goes back to the teacher.

    Args:
        teacher, student: scores, `(rows, documents)`.
    """
    known = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    said = functional.log_softmax(student / temperature, dim=-1)
    return functional.kl_div(said, known, log_target=True, reduction="none").sum(dim=-1)


def srl_terms(
    scores: Sequence[torch.Tensor], temperature: float = 1.0
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The ranking loss at every size, and the divergence of every size but the last from the last, each `(rows,)`.

    Args:
        scores: `(rows, documents)` for each size, the whole model's last.
    """
    rankings = [ranking_loss(one, temperature) for one in scores]
    return rankings, [score_divergence(scores[-1], one, temperature) for one in scores[:-1]]


class StarbucksSRL(OfSizes, EmbeddingObjective):
    """The ranking loss at every one of a few sizes, and the whole model as the teacher of the others.

    Example:
        In one's own loop, with an encoder and a tokenizer of `transformers` and rows of two texts::

            objective = StarbucksSRL(sizes=[(1, 8), (2, 32)], length=32)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            draws = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["starbucks-srl"] = "starbucks-srl"
    pooling: Pooling = Field("cls", description="How a text's hidden states become one vector.")
    normalise: Normalise = Field(
        "no", description="Vectors of length 1: `whole` before, `cut` after the first dimensions are taken; or `no`."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="What scores are divided by.")
    kl_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="How often the divergences count.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> nn.Module | None:
        """Nothing.

        Raises:
            ModelError: the sizes are not those of this model.
        """
        self.sizes_of(model)
        return super().start(model, tokenizer, rows)

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The sum of the ranking losses and the weighted divergences, mean over the rows, nats."""
        sizes = self.sizes_of(model)
        states = self.vectors(model, batch, [layer for layer, _ in sizes])
        scores = [pair_scores(texts, width, self.normalise) for texts, (_, width) in zip(states, sizes, strict=True)]
        rankings, divergences = srl_terms(scores, self.temperature)
        each = torch.stack(rankings).sum(dim=0)
        if divergences:
            each = each + self.kl_weight * torch.stack(divergences).sum(dim=0)
        parts = {f"{size_name(size)}/loss": one.mean() for size, one in zip(sizes, rankings, strict=True)}
        parts |= {f"{size_name(size)}/kl": one.mean() for size, one in zip(sizes[:-1], divergences, strict=True)}
        return loss_of_rows(each, scores[-1], parts)
