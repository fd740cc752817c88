"""Causal language modelling: each token predicts the next one of its document.

Packed documents are kept apart by `position_ids` that restart at each document, and by no attention mask at
all: that is what `transformers` turns into block-diagonal attention, for every backend. A mask of ones
would switch it off without a word, so none is ever made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.blocks import NO_TARGET, context_of, stacked, token_loss
from warmstart.objectives.output_layer import token_loss_of


class Causal(Objective):
    """Next-token prediction; a document's first token is never a target, its end mark is."""

    type: Literal["causal"] = "causal"
    head: ClassVar[Head] = "causal"

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids`, `position_ids` and `labels`, int64 `(batch, length)`.

        `labels[:, t]` is the target of the logits at `t`: the token at `t + 1`, where that is of the same
        document and not context.
        """
        tokens, positions = stacked(rows, "tokens"), stacked(rows, "positions")
        documents = stacked(rows, "documents")
        labels = np.full_like(tokens, NO_TARGET)
        # A piece that was cut at a block's edge starts a block, so a change of document is all there is to look for.
        follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
        labels[:, :-1] = np.where(follows & ~context_of(rows)[:, 1:], tokens[:, 1:], NO_TARGET)
        arrays = {"input_ids": tokens, "position_ids": positions, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean cross entropy of the next token, nats."""
        return token_loss(model(**_inputs(batch)).logits, batch["labels"])

    def loss_without_logits(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        return token_loss_of(model, batch["labels"], **_inputs(batch))


def _inputs(batch: Batch) -> dict[str, Any]:
    """What the model is called with."""
    return {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
