"""Contrastive embedding training: a query's own document must score higher than all others of the batch.

The plain loss (multiple-negatives ranking), which others here are variations of. With `dimensions` only the first few
of a vector count: the training of a separate small model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.models.layers import depth_of, width_of
from warmstart.objectives import Batch, Loss
from warmstart.objectives.embeddings import EmbeddingObjective, loss_of_rows, pair_scores, ranking_loss


class Contrastive(EmbeddingObjective):
    """Multiple-negatives ranking on the last layer.

    Example:
        In one's own loop, with an encoder and a tokenizer of `transformers` and rows of two texts::

            objective = Contrastive(pooling="mean", length=32)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            draws = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["contrastive"] = "contrastive"
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Only the first so many dimensions count; default: all."
    )

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean over the rows, nats.

        Raises:
            ModelError: the model has not so many dimensions.
        """
        width = width_of(model)
        if (self.dimensions or width) > width:
            raise ModelError(f"objective {self.name}: dimensions {self.dimensions} of a model with {width}")
        (texts,) = self.vectors(model, batch, [depth_of(model)])
        scores = pair_scores(texts, self.dimensions or width, self.normalise)
        return loss_of_rows(ranking_loss(scores, self.temperature), scores)
