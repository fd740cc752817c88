"""2D Matryoshka embeddings (2DMSE): at every step one lower layer and one smaller width, drawn at random.

Four ranking losses are added: the last layer and the drawn one, each with all dimensions and with the first few; and a
divergence that pulls the drawn layer's scores towards the last one's, which get no gradient from it. Any layer and any
of the widths can then be served, but each is trained only now and then; Starbucks trains a short fixed list of sizes at
every step instead.

The paper was not read in full. What is ours: the divergence is taken of the scores over a batch (as in Starbucks, so
that the two differ only in which sizes they train), and the widths are halvings of the model's unless they are given.

Source: X. Li et al., "2D Matryoshka Sentence Embeddings" (arXiv 2402.14776), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.models.layers import depth_of, width_of
from warmstart.objectives import Batch, Loss, Row
from warmstart.objectives.embeddings import EmbeddingObjective, loss_of_rows, pair_scores, ranking_loss
from warmstart.objectives.sizes import default_sizes
from warmstart.objectives.starbucks_srl import score_divergence


class Matryoshka2D(EmbeddingObjective):
    """The ranking loss at the last and at one lower layer, with all and with fewer dimensions, drawn at every step.

    Example:
        In one's own loop, with an encoder and a tokenizer of `transformers` and rows of two texts::

            objective = Matryoshka2D(widths=[8, 16], length=32)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            draws = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["matryoshka-2d"] = "matryoshka-2d"
    widths: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="The smaller widths that are drawn from; default: halvings of the model's."
    )
    kl_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="How often the divergence counts.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> nn.Module | None:
        """Nothing.

        Raises:
            ModelError: the model has no lower layer, or not so many dimensions.
        """
        if depth_of(model) < 2:
            raise ModelError(f"objective {self.name}: a model with one layer has no lower one to draw")
        if max(self._widths(model)) > width_of(model):
            raise ModelError(
                f"objective {self.name}: width {max(self.widths or [0])} of a model with {width_of(model)}"
            )
        return super().start(model, tokenizer, rows)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """As of every embedding objective, and `draws`: float32 `(rows, 2)`, for layer and width, the same in all rows:
        micro-batches train the same size."""
        batch = super().collate(rows, tokenizer, generator)
        draws = torch.from_numpy(generator.random(2, dtype=np.float32))
        return batch | {"draws": draws.expand(len(rows), 2).contiguous()}

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The sum of the four ranking losses and the weighted divergence, mean over the rows, nats."""
        depth, width, widths = depth_of(model), width_of(model), self._widths(model)
        to_layer, to_width = batch["draws"][0].tolist()
        lower, narrow = 1 + int(to_layer * (depth - 1)), widths[int(to_width * len(widths))]
        states = self.vectors(model, batch, [lower, depth])
        scores = [pair_scores(texts, size, self.normalise) for texts in states for size in (width, narrow)]
        each = [ranking_loss(one, self.temperature) for one in scores]
        divergence = score_divergence(scores[2], scores[0], self.temperature)
        parts = {"last": each[2].mean(), "lower": each[0].mean(), "kl": divergence.mean()}
        return loss_of_rows(torch.stack(each).sum(dim=0) + self.kl_weight * divergence, scores[2], parts)

    def _widths(self, model: nn.Module) -> list[int]:
        halvings = [size[1] for size in default_sizes(2**6, width_of(model))]
        return self.widths or halvings[:-1] or halvings
