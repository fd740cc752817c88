"""Objectives: what a training step minimises. One file per objective, its corruption beside its loss.

An objective turns rows into a batch (`collate`) and a batch into a loss (`loss`). It never touches the
optimizer, the schedule or the data order, so that any objective runs in any loop::

    batch = objective.collate(rows, tokenizer, generator)
    loss = objective.loss(model, batch)
    loss.total.backward()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from warmstart.part import Part

Row = dict[str, Any]
Batch = dict[str, torch.Tensor]
Head = Literal["causal", "masked", "detection", "speech", "ctc", "none"]


@dataclass
class Loss:
    """What an objective returns.

    Attributes:
        total: mean loss over the batch's targets, in nats; a scalar with gradient.
        targets: how many targets (predicted tokens) the mean is over; a scalar integer tensor.
        parts: named pieces of the total for the log, detached scalars.
        per_row: mean loss of each row, `(batch,)`, detached; `None` where the objective has no rows.
        logits: `(batch, length, vocabulary)` with gradient, beside the batch's `labels`, for penalties that compare
            distributions; `None` where the objective has none.
        right: how many targets were guessed right, a scalar, where the batch's `labels` cannot tell.
    """

    total: torch.Tensor
    targets: torch.Tensor
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    per_row: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    right: torch.Tensor | None = None


class Objective(Part, room="objectives"):
    """The contract of an objective."""

    head: ClassVar[Head] = "none"
    """Which head the model needs: decides `AutoModelForCausalLM`, `AutoModelForMaskedLM`, ..."""
    layouts: ClassVar[tuple[str, ...]] = ("padded",)
    """The layouts of `warmstart/train/layout.py` whose batches `loss` takes. For others than `padded` all columns of a
    batch are `(rows, length)` and `documents` or `attention_mask` say what is padding; an `unpadded` batch is
    `(1, tokens)`, without these two, and has `text_lengths`: int64 `(texts,)` on the host."""

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> nn.Module | None:
        """Extra modules that train and are saved with the run but are left out of the exported model (or `None`).

        Parameters that they share with the model are trained once. All randomness comes from PyTorch's global
        generator, which the caller has seeded. It is called again when a run is resumed; what was saved is then loaded
        into the result.

        Args:
            tokenizer, rows: the stage's tokenizer and all its training rows, for objectives that learn something of
                them before the first step; others need neither.

        Raises:
            UserError: this objective cannot train this model.
        """
        return None

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """Rows to a batch of CPU tensors.

        Rows of packed text have `tokens`, `positions` and `documents`: int arrays `(length,)`, where
        `documents` numbers the documents inside the block from 0 (all 0 when documents are joined). The
        batch must hold `labels`, with -100 where there is no target. All randomness comes from `generator`.
        """
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The loss of a batch under a model. `extra` is what `start` returned."""
        raise NotImplementedError
