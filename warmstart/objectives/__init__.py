"""Objectives: what a training step minimises. One file per objective, its corruption beside its loss.

An objective turns rows into a batch (`collate`) and a batch into a loss (`loss`). It never touches the
optimizer, the schedule or the data order, so that any objective runs in any loop::

    batch = objective.collate(rows, tokenizer, generator)
    loss = objective.loss(model, batch)
    loss.total.backward()

An objective that must look at the data while training goes on (to cluster it, say) has `refresh`: before the first step
and every so many steps the loop draws the rows of the steps until the next time, and hands them to it. So what it finds
out about a row and the row it is trained on are the same by construction, whatever the mix. What it remembers are
buffers of its own module (`start`), which are saved and resumed with the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn

from warmstart.part import Part

Row = dict[str, Any]
Batch = dict[str, torch.Tensor]
Head = Literal["causal", "masked", "detection", "embedding", "image-text", "speech", "ctc", "none"]
NUMBER = "number"
"""The column that rows of an objective with a `refresh` get: their number among all training rows of the stage."""


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

    def without_logits(self, batch: Batch) -> Loss:
        """The same without `logits`; in evaluation (no gradients) they say first how many guesses are right."""
        right = self.right
        if right is None and self.logits is not None and not torch.is_grad_enabled():
            # A position without a target holds -100, which is never a guess.
            right = (self.logits.argmax(dim=-1) == batch["labels"]).sum()
        return replace(self, logits=None, right=right)


@dataclass(frozen=True)
class Outlook:
    """What a `refresh` may look at: the training as it stands, and what comes next.

    Attributes:
        model, extra: the model that trains and the objective's own modules.
        rows: all training rows of the stage, each source after the other; a row's number is its place here.
        ahead: the numbers of the rows of all steps until the next refresh, in their order.
        batch_size: rows of a training step.
        seed: for this refresh alone.
        progress: the share of the training's budget that is used, 0 to 1.
        batch_of: rows to a batch on the device, as a training step makes it; the second argument, any words and
            numbers, is what its random changes are drawn from.
    """

    model: nn.Module
    extra: nn.Module | None
    rows: Sequence[Row]
    ahead: Sequence[int]
    batch_size: int
    seed: int
    progress: float
    batch_of: Callable[[Sequence[Row], tuple[Any, ...]], Batch]


class Objective(Part, room="objectives"):
    """The contract of an objective."""

    head: ClassVar[Head] = "none"
    """Which head the model needs: decides `AutoModelForCausalLM`, `AutoModelForMaskedLM`, ..."""
    layouts: ClassVar[tuple[str, ...]] = ("padded",)
    """The layouts of `warmstart/train/layout.py` whose batches `loss` takes. For others than `padded` all columns of a
    batch are `(rows, length)` and `documents` or `attention_mask` say what is padding; an `unpadded` batch is
    `(1, tokens)`, without these two, and has `text_lengths`: int64 `(texts,)` on the host."""
    packings: ClassVar[tuple[str, ...]] = ()
    """The packings (`data.packing`) whose rows `collate` takes; empty: it does not say."""
    compares_rows: ClassVar[bool] = False
    """Whether the loss of a row depends on the others of its batch: then a step cannot be cut into micro-batches."""
    may_skip_weights: ClassVar[bool] = False
    """Whether there are steps in which some weights of the model get no gradient."""
    with_shares: ClassVar[bool] = True
    """Whether it works where every process has only its share of the weights (`train.shard`): `loss` must call the
    model as a whole, and nothing inside it."""

    @classmethod
    def __pydantic_init_subclass__(cls, room: str | None = None, **kwargs: Any) -> None:
        """Who has a loss of their own has not that of another class without logits."""
        super().__pydantic_init_subclass__(room=room, **kwargs)
        if "loss" in cls.__dict__ and "loss_without_logits" not in cls.__dict__:
            cls.loss_without_logits = Objective.loss_without_logits  # type: ignore[method-assign]

    def for_model(self, model: nn.Module) -> Self:
        """The objective with those settings filled in that were left to the model (a size of pictures, say). The loop
        asks for it once, before anything else.

        Raises:
            UserError: the settings do not fit the model.
        """
        return self

    def refresh_every(self, batch_size: int) -> int:
        """Steps from one `refresh` to the next, with so many rows a step; 0: there is none."""
        return 0

    def refresh(self, outlook: Outlook) -> float:
        """Looks at the data anew; called without gradients. It changes buffers of `outlook.extra` and nothing else.

        All randomness comes from `outlook.seed`. Every process calls it with the same arguments, and the buffers of
        the first one are then everybody's.

        Returns:
            FLOPs of what PyTorch did not compute (a clustering); PyTorch's own are counted by the loop.
        """
        return 0.0

    def phase(self, extra: nn.Module | None) -> str:
        """Where an objective's steps do not all cost the same: the name of the kind that comes next."""
        return ""

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

    def loss_without_logits(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The same where nobody looks at `Loss.logits`, which is None then: an objective need not make them if they are
        large. The same FLOPs, and the same numbers but for rounding."""
        return self.loss(model, batch, extra).without_logits(batch)

    def files(self, model: nn.Module) -> dict[str, str]:
        """Small text files of the exported model's folder beside its own, by path: how others are to use the model."""
        return {}
